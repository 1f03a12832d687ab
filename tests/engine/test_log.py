"""What a log promises: the same suite for the log in memory and for Kafka."""

import asyncio
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.engine.kafka_log import KafkaLog
from billing_stream.engine.log import Fenced, Log
from billing_stream.engine.partition_processor import ChangelogRows, Outgoing
from billing_stream.kafka import topic_admin
from billing_stream.records.topics import Role, Topic
from tests.support.audit import read_committed
from tests.support.memory_log import MemoryLog

CONFIG = {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}


class Subject:
    """A log under test, with one table `rows` and a way to read what is committed."""

    def __init__(self, log: Log, topic: str, committed: Callable[[], object]) -> None:
        self.log = log
        self.topic = topic
        self._committed = committed

    def row(self, key: str, value: str | None) -> Outgoing:
        """A changelog record."""
        return Outgoing(self.topic, key.encode(), None if value is None else value.encode())

    async def rows(self, partition: int = 0) -> dict[str, str | None]:
        """The table as a restore sees it."""
        found: dict[str, str | None] = {}

        def on_rows(_partition: int, table: str, read: ChangelogRows) -> None:
            assert table == "rows"
            for key, value in read:
                found[key.decode()] = None if value is None else value.decode()

        await self.log.restore([partition], on_rows)
        return found


@pytest.fixture(params=["memory", "kafka"])
async def subject(request: pytest.FixtureRequest, prefix: str) -> Subject:
    """Both logs, one after the other."""
    topic = f"{prefix}rows"
    if request.param == "memory":
        memory = MemoryLog({"rows": topic})
        return Subject(memory, topic, lambda: memory.read(topic))
    servers: str = request.getfixturevalue("kafka")
    await make_topic(servers, topic)
    log = KafkaLog({"bootstrap_servers": servers}, app_id=prefix, changelogs={"rows": topic})
    return Subject(log, topic, lambda: read_committed(servers, [topic]))


async def make_topic(kafka: str, name: str, partitions: int = 2, **config: str) -> None:
    topic = Topic(name, Role.CHANGELOG, "key", "row", "test", {**CONFIG, **config})
    options = {"bootstrap_servers": kafka}
    await topic_admin.create_topics(options, [topic], partitions=partitions, replication=1)


async def test_an_empty_changelog_restores_to_nothing(subject: Subject) -> None:
    await (await subject.log.fence(0)).close()

    assert await subject.rows() == {}


async def test_what_was_committed_is_restored_and_later_rows_win(subject: Subject) -> None:
    writer = await subject.log.fence(0)
    await writer.commit([subject.row("a", "1"), subject.row("b", "1")])
    await writer.commit([subject.row("a", "2"), subject.row("b", None)])
    await writer.commit([subject.row("c", "3")])
    await writer.close()

    assert await subject.rows() == {"a": "2", "b": None, "c": "3"}


async def test_partitions_are_restored_apart(subject: Subject) -> None:
    one, other = await subject.log.fence(0), await subject.log.fence(1)
    await one.commit([subject.row("a", "1")])
    await other.commit([subject.row("b", "1")])
    await asyncio.gather(one.close(), other.close())

    assert await subject.rows(0) == {"a": "1"}
    assert await subject.rows(1) == {"b": "1"}


async def test_a_second_owner_fences_the_first_and_reads_all_it_committed(
    subject: Subject,
) -> None:
    old = await subject.log.fence(0)
    await old.commit([subject.row("a", "old")])

    new = await subject.log.fence(0)

    # Both of the producers that take turns are fenced.
    for _ in range(2):
        with pytest.raises(Fenced):
            await old.commit([subject.row("a", "zombie")])
    assert await subject.rows() == {"a": "old"}
    await new.commit([subject.row("a", "new")])
    assert await subject.rows() == {"a": "new"}
    await asyncio.gather(old.close(), new.close())


async def test_an_old_owner_learns_that_it_is_fenced_also_between_two_batches(
    subject: Subject,
) -> None:
    old = await subject.log.fence(0)
    new = await subject.log.fence(0)
    several = [subject.row(str(n), "x" * 900_000) for n in range(5)]

    for _ in range(2):
        with pytest.raises(Fenced):
            await old.commit(several)

    assert await subject.rows() == {}
    await asyncio.gather(old.close(), new.close())


async def test_a_record_larger_than_a_batch_is_written_whole(subject: Subject) -> None:
    writer = await subject.log.fence(0)
    large = "x" * 900_000

    await writer.commit([subject.row("a", large), subject.row("b", large), subject.row("c", "1")])

    assert await subject.rows() == {"a": large, "b": large, "c": "1"}
    await writer.close()


async def test_a_transaction_left_half_way_is_ended_by_the_next_owner(
    kafka: str, prefix: str
) -> None:
    topic = f"{prefix}rows"
    await make_topic(kafka, topic)
    log = KafkaLog({"bootstrap_servers": kafka}, app_id=prefix, changelogs={"rows": topic})
    writer = await log.fence(0)
    await writer.commit([Outgoing(topic, b"a", b"committed")])
    await writer.close()
    # A worker that dies after its records were sent and before the commit.
    dead = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{prefix}-0-0")
    await dead.start()
    await dead.begin_transaction()
    await dead.send_and_wait(topic, b"half", key=b"a", partition=0)

    writer = await log.fence(0)

    rows: dict[bytes, bytes | None] = {}
    await asyncio.wait_for(log.restore([0], lambda _p, _t, read: rows.update(read)), 10)
    assert rows == {b"a": b"committed"}
    await writer.commit([Outgoing(topic, b"a", b"next")])
    assert [r.value for r in await read_committed(kafka, [topic])] == [b"committed", b"next"]
    await asyncio.gather(writer.close(), dead.stop(), return_exceptions=True)


async def test_a_compacted_changelog_restores_to_its_end(kafka: str, prefix: str) -> None:
    topic = f"{prefix}rows"
    eager = {"min.cleanable.dirty.ratio": "0.001", "segment.bytes": "1048576", "segment.ms": "100"}
    await make_topic(kafka, topic, 1, **eager)
    log = KafkaLog({"bootstrap_servers": kafka}, app_id=prefix, changelogs={"rows": topic})
    writer = await log.fence(0)
    for turn in range(40):
        await writer.commit([Outgoing(topic, b"k%d" % n, b"%d" % turn) for n in range(50)])
        await asyncio.sleep(0.01)

    rows: dict[bytes, bytes | None] = {}
    count = 2000
    for _ in range(60):
        await asyncio.sleep(0.5)
        await writer.commit([Outgoing(topic, b"last", b"1")])
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
    log = KafkaLog({"bootstrap_servers": kafka}, app_id=prefix, changelogs={"rows": topic})
    writers = [await log.fence(partition) for partition in range(4)]
    for start in range(0, 50_000, 5_000):
        await asyncio.gather(
            *(
                writer.commit(
                    [
                        Outgoing(topic, b"%d-%d" % (partition, n), b"value of %d" % n)
                        for n in range(start, start + 5_000)
                    ]
                )
                for partition, writer in enumerate(writers)
            )
        )
    await asyncio.gather(*(writer.close() for writer in writers))

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
