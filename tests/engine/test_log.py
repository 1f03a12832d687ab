"""What a log promises: the same suite for the log in memory and for Kafka."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from billing_stream.engine.kafka_log import KafkaLog
from billing_stream.engine.lanes import NO_MEMBER
from billing_stream.engine.log import MEMBERS_KEY, Fenced, Log, Part, Writer
from billing_stream.engine.partition_processor import ChangelogRows, Outgoing
from billing_stream.kafka import topic_admin
from billing_stream.kafka.transaction_offsets import Member
from billing_stream.records.topics import Role, Topic
from tests.support.group import group_on
from tests.support.memory_log import MemoryLog

CONFIG = {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}


class Subject:
    """A log under test, with one table `rows`; `next_member` begins a generation."""

    def __init__(
        self, log: Log, topic: str, next_member: Callable[[], Awaitable[Member]] | None = None
    ) -> None:
        self.log = log
        self.topic = topic
        self._next_member = next_member

    async def join(self, *partitions: int) -> Writer:
        """The next owner of these partitions."""
        member = NO_MEMBER if self._next_member is None else await self._next_member()
        return await self.log.join(member, partitions)

    def row(self, key: str, value: str | None) -> Outgoing:
        """A changelog record."""
        return Outgoing(self.topic, key.encode(), None if value is None else value.encode())

    def part(self, partition: int = 0, /, **rows: str | None) -> Part:
        """What a lane has in a transaction."""
        return Part(partition, [self.row(key, value) for key, value in rows.items()])

    async def rows(self, partition: int = 0) -> dict[str, str | None]:
        """The table as a restore sees it."""
        found: dict[str, str | None] = {}

        def on_rows(_partition: int, table: str, read: ChangelogRows) -> None:
            assert table == "rows"
            for key, value in read:
                found[key.decode()] = None if value is None else value.decode()

        await self.log.restore([partition], on_rows)
        return found


@pytest_asyncio.fixture(params=["memory", "kafka"])
async def subject(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Subject]:
    """Both logs, one after the other."""
    topic = f"{prefix}rows"
    if request.param == "memory":
        yield Subject(MemoryLog({"rows": topic}), topic)
        return
    servers: str = request.getfixturevalue("kafka")
    await make_topic(servers, topic)
    async with group_on(servers, prefix, topic) as group:
        yield Subject(log_on(servers, prefix), topic, group.next)


def log_on(servers: str, prefix: str, partitions: int = 2) -> KafkaLog:
    """One table, whose changelog is an input, too."""
    topic = f"{prefix}rows"
    return KafkaLog(
        {"bootstrap_servers": servers},
        app_id=prefix,
        changelogs={"rows": topic},
        offsets_topic=topic,
        partitions=partitions,
    )


async def make_topic(kafka: str, name: str, partitions: int = 2, **config: str) -> None:
    topic = Topic(name, Role.CHANGELOG, "key", "row", "test", {**CONFIG, **config})
    options = {"bootstrap_servers": kafka}
    await topic_admin.create_topics(options, [topic], partitions=partitions, replication=1)


async def test_an_empty_changelog_restores_to_nothing(subject: Subject) -> None:
    await (await subject.join(0)).close()

    assert await subject.rows() == {}


async def test_what_was_committed_is_restored_and_later_rows_win(subject: Subject) -> None:
    writer = await subject.join(0)
    await writer.commit([subject.part(a="1", b="1")])
    await writer.commit([subject.part(a="2", b=None)])
    await writer.commit([subject.part(c="3")])
    await writer.close()

    assert await subject.rows() == {"a": "2", "b": None, "c": "3"}


async def test_lanes_of_one_transaction_are_restored_apart(subject: Subject) -> None:
    writer = await subject.join(0, 1)
    await writer.commit([subject.part(0, a="1"), subject.part(1, b="1")])
    await writer.commit([subject.part(1, b="2")])
    await writer.close()

    assert await subject.rows(0) == {"a": "1"}
    assert await subject.rows(1) == {"b": "2"}


async def test_two_transactions_are_written_at_once(subject: Subject) -> None:
    writer = await subject.join(0, 1)

    await asyncio.gather(
        *(writer.commit([subject.part(n % 2, **{f"k{n}": str(n)})]) for n in range(12))
    )

    for partition in range(2):
        found = await subject.rows(partition)
        assert found == {f"k{n}": str(n) for n in range(partition, 12, 2)}
    await writer.close()


async def test_a_second_owner_fences_the_first_and_reads_all_it_committed(
    subject: Subject,
) -> None:
    old = await subject.join(0)
    await old.commit([subject.part(a="old")])

    new = await subject.join(0)

    # Both of the producers that take turns are fenced.
    for _ in range(2):
        with pytest.raises(Fenced):
            await old.commit([subject.part(a="zombie")])
    assert await subject.rows() == {"a": "old"}
    await new.commit([subject.part(a="new")])
    assert await subject.rows() == {"a": "new"}
    await asyncio.gather(old.close(), new.close())


async def test_an_old_owner_learns_that_it_is_fenced_also_between_two_batches(
    subject: Subject,
) -> None:
    old = await subject.join(0)
    new = await subject.join(0)
    several = subject.part(**{f"k{n}": "x" * 900_000 for n in range(5)})

    for _ in range(2):
        with pytest.raises(Fenced):
            await old.commit([several])

    assert await subject.rows() == {}
    await asyncio.gather(old.close(), new.close())


async def test_a_lane_that_was_given_away_takes_its_whole_transaction_with_it(
    subject: Subject,
) -> None:
    old = await subject.join(0, 1)
    await old.commit([subject.part(0, a="1"), subject.part(1, b="1")])
    new = await subject.join(1)

    with pytest.raises(Fenced):
        await old.commit([subject.part(0, a="2"), subject.part(1, b="2")])

    assert await subject.rows(0) == {"a": "1"}
    assert await subject.rows(1) == {"b": "1"}
    await asyncio.gather(old.close(), new.close())


async def test_what_ends_an_old_release_is_written_once_and_is_no_row(subject: Subject) -> None:
    writer = await subject.join(0)
    await writer.commit([subject.part(a="1")])

    await subject.log.end_old_release(0)

    assert await subject.rows() == {"a": "1", MEMBERS_KEY.decode(): ""}
    assert await subject.rows(1) == {}
    # The members of the group go on.
    await writer.commit([subject.part(a="2")])
    assert (await subject.rows())["a"] == "2"
    await writer.close()


async def test_a_record_larger_than_a_batch_is_written_whole(subject: Subject) -> None:
    writer = await subject.join(0)
    large = "x" * 900_000

    await writer.commit([subject.part(a=large, b=large, c="1")])

    assert await subject.rows() == {"a": large, "b": large, "c": "1"}
    await writer.close()


async def test_a_compacted_changelog_restores_to_its_end(kafka: str, prefix: str) -> None:
    topic = f"{prefix}rows"
    eager = {"min.cleanable.dirty.ratio": "0.001", "segment.bytes": "1048576", "segment.ms": "100"}
    await make_topic(kafka, topic, 1, **eager)
    log = log_on(kafka, prefix, 1)
    async with group_on(kafka, prefix, topic) as group:
        writer = await log.join(await group.next(), [0])
        for turn in range(40):
            written = [Outgoing(topic, b"k%d" % n, b"%d" % turn) for n in range(50)]
            await writer.commit([Part(0, written)])
            await asyncio.sleep(0.01)

        rows: dict[bytes, bytes | None] = {}
        count = 2000
        for _ in range(60):
            await asyncio.sleep(0.5)
            await writer.commit([Part(0, [Outgoing(topic, b"last", b"1")])])
            rows.clear()
            count = await log.restore([0], lambda _p, _t, read: rows.update(read))
            if count < 200:
                break

        assert count < 200, "the broker compacted nothing"
        assert rows == {**{b"k%d" % n: b"39" for n in range(50)}, b"last": b"1"}
        await writer.close()


async def test_a_table_of_200_000_keys_is_restored_whole(kafka: str, prefix: str) -> None:
    topic = f"{prefix}rows"
    await make_topic(kafka, topic, 4)
    log = log_on(kafka, prefix, 4)
    async with group_on(kafka, prefix, topic) as group:
        writer = await log.join(await group.next(), range(4))
        for start in range(0, 50_000, 5_000):
            await writer.commit([_numbered(topic, partition, start) for partition in range(4)])
        await writer.close()

    rows: dict[bytes, bytes | None] = {}
    told: list[tuple[int, int]] = []
    count = await log.restore(
        [0, 1, 2, 3],
        lambda _p, _t, read: rows.update(read),
        lambda total: told.append((total, len(rows))),
    )

    assert count == 200_000
    # How many there are at most, markers among them, and before the first of them.
    ((total, before),) = told
    assert 200_000 < total < 201_000
    assert before == 0
    assert rows == {
        b"%d-%d" % (partition, n): b"value of %d" % n
        for partition in range(4)
        for n in range(50_000)
    }


def _numbered(topic: str, partition: int, start: int) -> Part:
    numbers = range(start, start + 5_000)
    rows = [Outgoing(topic, b"%d-%d" % (partition, n), b"value of %d" % n) for n in numbers]
    return Part(partition, rows)
