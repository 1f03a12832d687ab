"""Only a member of the group's present generation commits, and what earlier ones left is ended."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, ProducerFenced

from billing_stream.engine import kafka_log
from billing_stream.engine.kafka_log import KafkaLog
from billing_stream.engine.kafka_writer import KafkaWriter
from billing_stream.engine.log import MEMBERS_KEY, Fenced, Part
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.kafka.earlier_transactions import member_ids
from billing_stream.kafka.producers import new_producer
from billing_stream.kafka.transaction_offsets import Member
from billing_stream.kafka.transaction_protocol import TransactionalProducer
from tests.support.audit import read_committed
from tests.support.group import Group, group_on
from tests.support.late_request import LateRequest

TXN_OFFSET_COMMIT = 28

# In one process: `servers` shares the broker without its name being visible before a test runs.
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("tests/engine/test_transaction_protocol.py"),
]


class Scene:
    """An app with one table of two partitions, and its group."""

    def __init__(self, servers: str, app: str, group: Group) -> None:
        self.servers = servers
        self.app = app
        self.topic = f"{app}-rows"
        self.group = group
        self.opened: list[Any] = []

    def log(self, worker: str | None = None) -> KafkaLog:
        """That of one more worker."""
        return KafkaLog(
            {"bootstrap_servers": self.servers},
            app_id=self.app,
            changelogs={"rows": self.topic},
            offsets_topic=self.topic,
            worker=worker,
            partitions=2,
        )

    async def owner(
        self, *partitions: int, member: Member | None = None, worker: str | None = None
    ) -> KafkaWriter:
        """One more worker, in the next generation unless it is given as which member."""
        member = member or await self.group.next()
        writer = await self.log(worker).join(member, partitions or (0, 1))
        self.opened.append(writer)
        return writer

    def part(self, value: str, partition: int = 0) -> Part:
        """What a lane has in a transaction."""
        return Part(partition, [Outgoing(self.topic, b"row", value.encode())], position=7)

    async def rows(self) -> dict[int, str]:
        """The row of each partition, as a restore sees it."""
        found: dict[int, str] = {}

        def on_rows(partition: int, _: str, rows: Any) -> None:
            for key, value in rows:
                if key == b"row":
                    found[partition] = value.decode()

        await asyncio.wait_for(self.log().restore([0, 1], on_rows), 20)
        return found

    async def open(self, transactional_id: str, value: str) -> TransactionalProducer:
        """A transaction with a row, which is left open."""
        producer = new_producer({"bootstrap_servers": self.servers}, transactional_id)
        await producer.start()
        self.opened.append(producer)
        await producer.begin_transaction()
        await producer.send_and_wait(self.topic, value.encode(), key=b"row", partition=0)
        return producer

    async def held_back(self) -> bool:
        """Whether readers of what is committed do not come to the end."""
        ends = []
        for level in ("read_committed", "read_uncommitted"):
            consumer = AIOKafkaConsumer(bootstrap_servers=self.servers, isolation_level=level)
            await consumer.start()
            tps = [TopicPartition(self.topic, n) for n in range(2)]
            ends.append(await consumer.end_offsets(tps))
            await consumer.stop()
        return bool(ends[0] != ends[1])


@asynccontextmanager
async def scene_on(servers: str) -> AsyncIterator[Scene]:
    app = f"t{uuid.uuid4().hex[:10]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(f"{app}-rows", 2, 1)])
    await admin.close()
    async with group_on(servers, app, f"{app}-rows") as group:
        scene = Scene(servers, app, group)
        try:
            yield scene
        finally:
            for one in scene.opened:
                stopped = one.close() if isinstance(one, KafkaWriter) else one.stop()
                await asyncio.gather(stopped, return_exceptions=True)


class Stopped:
    """A worker that stops for a while before a call of its producers."""

    def __init__(self, writer: KafkaWriter, name: str) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        for producer in writer.producers:
            setattr(producer, name, self._instead(getattr(producer, name)))

    def _instead(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def stop(*arguments: Any) -> Any:
            self.reached.set()
            await self.go_on.wait()
            return await call(*arguments)

        return stop


async def test_members_of_one_generation_write_beside_each_other(servers: str) -> None:
    async with scene_on(servers) as scene:
        before = await scene.owner()
        async with group_on(servers, scene.app, scene.topic) as other:
            second, first = await asyncio.gather(other.follow(), scene.group.follow())
            assert first.generation == second.generation
            assert first.member_id != second.member_id
            one, two = await asyncio.gather(
                scene.owner(0, member=first), scene.owner(1, member=second)
            )

            for number in range(4):
                await asyncio.gather(
                    one.commit([scene.part(f"one {number}", 0)]),
                    two.commit([scene.part(f"two {number}", 1)]),
                )

            with pytest.raises(Fenced):
                await before.commit([scene.part("before")])
            assert await scene.rows() == {0: "one 3", 1: "two 3"}


async def test_offsets_stand_in_the_group_for_tools_that_show_them(servers: str) -> None:
    async with scene_on(servers) as scene:
        writer = await scene.owner()
        await writer.commit([scene.part("a", 0), scene.part("b", 1)])

        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        found = await admin.list_consumer_group_offsets(scene.app)
        await admin.close()

        assert {tp.partition: at.offset for tp, at in found.items()} == {0: 7, 1: 7}


@pytest.mark.parametrize("joined", [False, True], ids=["nobody joined yet", "another joined"])
async def test_member_of_an_earlier_generation_commits_nothing(servers: str, joined: bool) -> None:
    async with scene_on(servers) as scene:
        old = await scene.owner()
        await old.commit([scene.part("kept")])
        stopped = Stopped(old, "add_offsets")
        # All its records are in the log, and the group has not been asked.
        committing = asyncio.create_task(old.commit([scene.part("late"), scene.part("late", 1)]))
        await stopped.reached.wait()
        assert await scene.held_back()
        member = await scene.group.next()
        if joined:
            new = await scene.owner(member=member)
            assert not await scene.held_back(), "its transaction is open still"
            await new.commit([scene.part("new", 1)])

        stopped.go_on.set()
        with pytest.raises(Fenced):
            await committing

        assert await scene.rows() == {0: "kept", **({1: "new"} if joined else {})}
        assert not await scene.held_back()
        for _ in range(2):
            with pytest.raises(Fenced):
                await old.commit([scene.part("later")])
        assert (await scene.rows())[0] == "kept"


async def test_member_that_the_group_does_not_know_commits_nothing(servers: str) -> None:
    async with scene_on(servers) as scene:
        member = await scene.group.next()
        stranger = await scene.owner(member=member._replace(member_id="somebody"))

        with pytest.raises(Fenced):
            await stranger.commit([scene.part("zombie")])

        assert await scene.rows() == {}
        assert not await scene.held_back()


async def test_member_of_no_generation_commits_nothing(servers: str) -> None:
    async with scene_on(servers) as scene:
        nobody = Member(scene.app, -1, "")
        await scene.group.next()
        # The group itself takes such offsets from anybody.
        open_ = await scene.open(f"{scene.app}-another", "old client")
        await open_._txn_manager.add_offsets_of(nobody, {TopicPartition(scene.topic, 0): 1})
        await open_.abort_transaction()
        writer = await scene.owner(member=nobody)

        with pytest.raises(Fenced):
            await writer.commit([scene.part("zombie")])

        assert await scene.rows() == {}
        assert not await scene.held_back()


async def test_late_offsets_of_a_member_add_nothing_to_a_later_transaction(servers: str) -> None:
    async with scene_on(servers) as scene:
        old = await scene.owner()
        late = LateRequest(old.producers[0], TXN_OFFSET_COMMIT, arrives=True)
        await old.commit([scene.part("one")])
        assert late.held
        new = await scene.owner()
        await new.commit([scene.part("two")])

        answer = await late.deliver()

        assert {code for _, codes, _ in answer.topics for _, code, _ in codes} != {0}
        await new.commit([scene.part("three")])
        assert (await scene.rows())[0] == "three"
        assert not await scene.held_back()


async def test_what_was_accepted_and_committed_late_is_read_by_the_next_owner(
    servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene_on(servers) as scene:
        old = await scene.owner()
        stopped = Stopped(old, "commit_transaction")
        committing = asyncio.create_task(old.commit([scene.part("late")]))
        await stopped.reached.wait()
        member, end = await scene.group.next(), KafkaLog._end

        async def after_the_late_end(log: KafkaLog, *arguments: Any) -> None:
            stopped.go_on.set()
            await committing
            await end(log, *arguments)

        monkeypatch.setattr(KafkaLog, "_end", after_the_late_end)
        new = await scene.owner(member=member)

        assert await scene.rows() == {0: "late"}
        await new.commit([scene.part("new")])
        assert await scene.rows() == {0: "new"}


async def test_what_was_accepted_and_is_open_is_ended_and_its_owner_learns_it(
    servers: str,
) -> None:
    async with scene_on(servers) as scene:
        old = await scene.owner()
        stopped = Stopped(old, "commit_transaction")
        committing = asyncio.create_task(old.commit([scene.part("late")]))
        await stopped.reached.wait()

        new = await scene.owner()

        assert not await scene.held_back()
        stopped.go_on.set()
        with pytest.raises(Fenced):
            await committing
        assert await scene.rows() == {}
        await new.commit([scene.part("new")])
        assert await scene.rows() == {0: "new"}


async def test_static_member_that_starts_again_ends_what_it_left_open(servers: str) -> None:
    async with scene_on(servers) as scene:
        before = await scene.owner(worker="static")
        beside = await scene.owner(member=scene.group.member, worker="another")
        stopped = Stopped(before, "commit_transaction")
        committing = asyncio.create_task(before.commit([scene.part("late")]))
        await stopped.reached.wait()

        # In the same generation: the group has not moved anything meanwhile.
        again = await scene.owner(member=scene.group.member, worker="static")

        assert not await scene.held_back()
        stopped.go_on.set()
        with pytest.raises(Fenced):
            await committing
        await asyncio.gather(again.commit([scene.part("0")]), beside.commit([scene.part("1", 1)]))
        assert await scene.rows() == {0: "0", 1: "1"}


async def test_late_end_and_next_owner_agree_what_became_of_a_transaction(servers: str) -> None:
    async with scene_on(servers) as scene:
        owner, expected = await scene.owner(), ""
        for number in range(6):
            stopped = Stopped(owner, "commit_transaction")
            committing = asyncio.create_task(owner.commit([scene.part(f"late {number}")]))
            await stopped.reached.wait()
            member = await scene.group.next()
            joining = asyncio.create_task(scene.owner(member=member))
            # Somewhere on the way of the other one.
            await asyncio.sleep(number * 0.01)
            stopped.go_on.set()

            outcome = (await asyncio.gather(committing, return_exceptions=True))[0]
            owner = await joining

            assert outcome is None or isinstance(outcome, Fenced)
            expected = f"late {number}" if outcome is None else expected
            assert (await scene.rows()).get(0, "") == expected


async def test_only_open_transactions_of_earlier_generations_are_ended(servers: str) -> None:
    async with scene_on(servers) as scene:
        await scene.group.next()
        member = await scene.group.next()
        assert member.generation > 1

        def one_of(generation: int, app: str = scene.app) -> str:
            return member_ids(app, generation, "another", 1)[0]

        first = await scene.open(one_of(1), "first")
        earlier = await scene.open(one_of(member.generation - 1), "earlier")
        present = await scene.open(one_of(member.generation), "present")
        later = await scene.open(one_of(member.generation + 1), "later")
        # One app's name can begin as that of another does.
        foreign = await scene.open(one_of(1, f"{scene.app}-w"), "foreign")

        await scene.owner(member=member)

        for ended in (first, earlier):
            with pytest.raises((ProducerFenced, KafkaError)):
                await ended.commit_transaction()
        for left in (present, later, foreign):
            await left.commit_transaction()
        values = {r.value for r in await read_committed(servers, [scene.topic])}
        assert values == {b"present", b"later", b"foreign"}


async def old_worker(scene: Scene, transactional_id: str) -> AIOKafkaProducer:
    """As a worker of 0.5.1 writes a partition; its transaction is open."""
    producer = AIOKafkaProducer(
        bootstrap_servers=scene.servers, transactional_id=transactional_id, retry_backoff_ms=10
    )
    await producer.start()
    scene.opened.append(producer)
    await producer.begin_transaction()
    await producer.send_and_wait(scene.topic, b"old", key=b"row", partition=0)
    await producer.commit_transaction()
    await producer.begin_transaction()
    await producer.send_and_wait(scene.topic, b"open", key=b"row", partition=0)
    return producer


@pytest.mark.parametrize("joined", [False, True], ids=["alone", "after a join"])
async def test_worker_of_an_old_release_is_fenced_for_good(servers: str, joined: bool) -> None:
    async with scene_on(servers) as scene:
        olds = [await old_worker(scene, f"{scene.app}-0-{turn}") for turn in range(2)]
        other = await old_worker(scene, f"{scene.app}-1-0")
        if joined:
            await scene.owner(0)

        await scene.log().end_old_release(0)

        for old in olds:
            with pytest.raises((ProducerFenced, KafkaError)):
                await old.commit_transaction()
        # That of another partition is not theirs to end.
        await other.commit_transaction()
        records = await read_committed(servers, [scene.topic])
        assert [r.value for r in records if r.key == b"row"] == [b"old"] * 3 + [b"open"]
        written = [r for r in records if r.key == MEMBERS_KEY]
        assert [r.partition for r in written] == [0, 0], "under each of its ids"
        assert all(dict(r.headers) == {"state": b"5"} for r in written)


async def test_old_release_that_starts_at_the_same_time_is_no_silent_end(
    servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene_on(servers) as scene:
        complete = kafka_log.complete_last_transaction
        started: list[AIOKafkaProducer] = []

        async def beside_another(producer: Any, *arguments: Any) -> None:
            await complete(producer, *arguments)
            if not started and producer.transactional_id.endswith("-0-0"):
                started.append(await old_worker(scene, producer.transactional_id))

        monkeypatch.setattr(kafka_log, "complete_last_transaction", beside_another)

        with pytest.raises(Fenced):
            await scene.log().end_old_release(0)

        await started[0].commit_transaction()
        found = [r.value for r in await read_committed(servers, [scene.topic])]
        assert found == [b"old", b"open"], "nothing says that only members write"
        # Tried again, it ends that one, too.
        await scene.log().end_old_release(0)
        with pytest.raises((ProducerFenced, KafkaError)):
            async with started[0].transaction():
                await started[0].send_and_wait(scene.topic, b"zombie", key=b"row", partition=0)
        assert MEMBERS_KEY in [r.key for r in await read_committed(servers, [scene.topic])]
