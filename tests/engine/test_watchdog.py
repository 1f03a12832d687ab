"""A worker that lives and does not get on is noticed; one that is only slow is not."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from billing_stream.engine.log import Part
from billing_stream.engine.watchdog import STEP_SECONDS_MAX, Watchdog
from billing_stream.records import topics as names
from tests.support.partition import Partition, record
from tests.support.world import M1

CREATED = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}
TOPIC = names.PURCHASE_UPDATED


class Hang:
    """A writer that does not come back until it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def commit(self, parts: Sequence[Part]) -> None:
        """Wait."""
        await self.let_go.wait()

    async def close(self) -> None:
        """Nothing to close."""


class Watch:
    """A watchdog whose time passes second by second, when it is told to."""

    def __init__(self, partition: Partition) -> None:
        self.now = 1000.0
        self.behind: dict[tuple[str, int], int] = {}
        self.deaths: list[str] = []
        self.answers = True
        self.unwritable: list[str] = []

        async def ask_unwritable() -> list[str]:
            return self.unwritable

        async def ask() -> Mapping[tuple[str, int], int]:
            if not self.answers:
                raise TimeoutError
            return dict(self.behind)

        self.dog = Watchdog(
            partition.lanes,
            ask_lagging=ask,
            ask_unwritable=ask_unwritable,
            die=lambda why, _: self.deaths.append(why),
            clock=lambda: self.now,
        )

    async def passes(self, seconds: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Let time pass; the problems at the end."""
        sleep = asyncio.sleep

        async def tick(_: float) -> None:
            await sleep(0)

        with monkeypatch.context() as patched:
            patched.setattr("billing_stream.engine.watchdog.asyncio.sleep", tick)
            watching = asyncio.ensure_future(self.dog.watch())
            for _ in range(seconds):
                self.now += 1
                self.dog.look()
                await sleep(0)
                await sleep(0)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return self.dog.problems()


async def feed_a_hanging_lane(partition: Partition) -> tuple[Hang, "asyncio.Future[Any]"]:
    hang = Hang()
    await partition.lanes.scheduler.use(hang)
    feed = asyncio.ensure_future(partition.feed(record(names.MERCHANT_CREATED, 0, CREATED)))
    await asyncio.sleep(0.01)
    return hang, feed


async def test_a_lane_that_cannot_commit_is_not_ready_then_ends_and_is_forgiven(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    watch = Watch(partition)
    hang, feed = await feed_a_hanging_lane(partition)

    assert await watch.passes(29, monkeypatch) == []
    problems = await watch.passes(3, monkeypatch)
    assert len(problems) == 1
    assert problems[0].startswith("partition 0 has had work waiting for 3")
    await watch.passes(85, monkeypatch)
    assert watch.deaths == []
    await watch.passes(10, monkeypatch)
    assert watch.deaths
    hang.let_go.set()
    await asyncio.gather(feed, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert watch.dog.problems() == []


async def test_a_busy_lane_that_commits_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = await Partition().restart()
    watch = Watch(partition)

    for second in range(200):
        partition.lane._idle.clear()
        partition.lane.stats.last_commit = float(second)
        assert await watch.passes(1, monkeypatch) == []
    assert watch.deaths == []


async def test_recovery_that_stands_still_ends_and_one_that_moves_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    await partition.lanes.pause()
    watch = Watch(partition)

    for _ in range(20):
        partition.lanes.activity += 1
        (problem,) = await watch.passes(10, monkeypatch)
        assert "moving or recovering" in problem
    assert watch.deaths == []
    await watch.passes(125, monkeypatch)

    assert watch.deaths
    assert watch.deaths[0].startswith("recovery has not moved for 12")


async def test_records_that_are_not_fetched_are_noticed_though_the_lane_is_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    watch = Watch(partition)
    watch.behind = {(TOPIC, 0): 7}

    problems = await watch.passes(35, monkeypatch)
    watch.behind = {(TOPIC, 0): 8}
    moved = await watch.passes(5, monkeypatch)
    watch.behind = {}
    caught_up = await watch.passes(200, monkeypatch)

    assert len(problems) == 1
    assert problems[0].startswith(f"records of {TOPIC}[0] have not been fetched for 3")
    assert moved == caught_up == watch.deaths == []


async def test_records_of_a_partition_that_is_not_ours_any_more_are_no_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    partition.lanes.partitions = 8
    watch = Watch(partition)
    watch.behind = {(TOPIC, 5): 7}

    assert await watch.passes(200, monkeypatch) == []
    assert watch.deaths == []


async def test_a_broker_that_does_not_answer_is_not_ready_and_no_reason_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    watch = Watch(partition)
    watch.answers = False

    away = await watch.passes(200, monkeypatch)
    watch.answers = True
    back = await watch.passes(5, monkeypatch)

    assert len(away) == 1
    assert away[0].startswith("Kafka has not answered for 19")
    assert back == watch.deaths == []


async def test_lanes_wait_for_brokers_however_long_and_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    watch = Watch(partition)
    hang, feed = await feed_a_hanging_lane(partition)
    watch.unwritable = ["8 partitions with fewer replicas in sync than min.insync.replicas"]

    soon = await watch.passes(15, monkeypatch)
    late = await watch.passes(600, monkeypatch)
    watch.unwritable = []
    back = await watch.passes(5, monkeypatch)

    assert soon == late == ["8 partitions with fewer replicas in sync than min.insync.replicas"]
    assert back == watch.deaths == []
    # Nothing is in the way any more: a lane that still does not commit is stuck.
    await watch.passes(125, monkeypatch)
    assert watch.deaths
    hang.let_go.set()
    await asyncio.gather(feed, return_exceptions=True)


async def test_a_process_that_was_paused_has_not_been_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    watch = Watch(partition)
    hang, feed = await feed_a_hanging_lane(partition)
    await watch.passes(1, monkeypatch)

    watch.now += 10_000

    assert watch.dog.problems() == []
    assert watch.dog._watched["partition 0 has had work waiting"].seconds <= 3 * STEP_SECONDS_MAX
    hang.let_go.set()
    await asyncio.gather(feed, return_exceptions=True)
