"""Which lanes have a transaction together, and what becomes of each when something fails."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest

from billing_stream.engine.commit_scheduler import (
    COMMIT_INTERVAL_SECONDS,
    RECORDS_AT_ONCE,
    RECORDS_MAX,
    TRANSACTIONS_AT_ONCE,
    CommitScheduler,
)
from billing_stream.engine.lanes import NO_MEMBER
from billing_stream.engine.log import Fenced, Part
from billing_stream.engine.partition_inputs import Batch
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.records import topics as names
from tests.support.memory_log import Crash, MemoryLog
from tests.support.partition import Partition, record
from tests.support.world import M1

TOPIC = "rows"
CREATED = {"merchant_id": M1, "platform_name": "shopify", "domain": "a.example"}


class Held:
    """A writer whose commits end when a test says so, in the order in which they began."""

    def __init__(self) -> None:
        self.commits: list[tuple[list[int], asyncio.Future[None]]] = []

    @property
    def written(self) -> list[list[int]]:
        """The partitions of each transaction."""
        return [sorted(partitions) for partitions, _ in self.commits]

    async def commit(self, parts: Sequence[Part]) -> None:
        """Wait for `end`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.commits.append(([part.partition for part in parts], future))
        await future

    def end(self, number: int, error: BaseException | None = None) -> None:
        """Let one of them come back."""
        _, future = self.commits[number]
        future.set_result(None) if error is None else future.set_exception(error)

    async def close(self) -> None:
        """Nothing to close."""


class Lane:
    """A lane that stages, commits and applies when it is told to.

    `steps` says how far it is: waits, stages, writes, applies, done, or what it failed with.
    """

    def __init__(self, scheduler: CommitScheduler, partition: int, records: int = 1) -> None:
        self.scheduler = scheduler
        self.partition = partition
        self.records = records
        self.step = "waits"
        self.stage, self.apply = asyncio.Event(), asyncio.Event()
        self.writes = True
        self.error: BaseException | None = None
        self.in_stage: Exception | None = None
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async with self.scheduler.turn(self.records) as turn:
                self.step = "stages"
                await self.stage.wait()
                if self.in_stage is not None:
                    raise self.in_stage
                if self.writes:
                    self.step = "writes"
                    row = Outgoing(TOPIC, b"%d" % self.partition, b"row")
                    await turn.commit(Part(self.partition, [row]))
                self.step = "applies"
                await self.apply.wait()
            self.step = "done"
        except Exception as error:
            self.step, self.error = "failed", error

    def go(self) -> "Lane":
        """Stop nowhere of its own."""
        self.stage.set()
        self.apply.set()
        return self


async def settle() -> None:
    """Let everything happen that waits for nothing but its turn in the loop."""
    for _ in range(30):
        await asyncio.sleep(0)


def steps(*lanes: Lane) -> list[str]:
    return [lane.step for lane in lanes]


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
async def scheduler(held: Held) -> CommitScheduler:
    """One without an interval, so that no time passes in a test."""
    made = CommitScheduler(0.0)
    await made.use(held)
    return made


async def test_lanes_that_wait_together_have_one_transaction(
    scheduler: CommitScheduler, held: Held
) -> None:
    first = Lane(scheduler, 0).go()
    await settle()
    others = [Lane(scheduler, n).go() for n in range(1, 5)]
    await settle()
    assert held.written == [[0]]
    assert steps(*others) == ["waits"] * 4

    held.end(0)
    await settle()
    assert steps(first) == ["done"]
    assert held.written == [[0], [1, 2, 3, 4]]

    held.end(1)
    await settle()
    assert steps(*others) == ["done"] * 4


async def test_transaction_is_written_when_the_last_of_its_lanes_has_staged(
    scheduler: CommitScheduler, held: Held
) -> None:
    blocker = Lane(scheduler, 9).go()
    await settle()
    one, other, nothing = (Lane(scheduler, n) for n in range(3))
    nothing.writes = False
    await settle()
    held.end(0)
    await settle()
    assert steps(blocker, one, other, nothing) == ["done", "stages", "stages", "stages"]

    one.go()
    nothing.go()
    await settle()
    assert held.written == [[9]], "one of them is not known yet"
    other.go()
    await settle()
    assert held.written == [[9], [0, 1]]
    assert steps(nothing, one, other) == ["done", "writes", "writes"]


async def test_next_transaction_begins_when_the_lanes_of_the_last_have_applied(
    scheduler: CommitScheduler, held: Held
) -> None:
    one, other = Lane(scheduler, 0), Lane(scheduler, 1)
    one.go()
    other.stage.set()
    await settle()
    while held.commits[-1][1].done() is False:
        held.end(len(held.commits) - 1)
        await settle()
    assert steps(one, other) == ["done", "applies"]
    late = Lane(scheduler, 2).go()
    await settle()
    assert steps(late) == ["waits"]

    other.apply.set()
    await settle()

    assert steps(other, late) == ["done", "writes"]


async def test_second_is_staged_while_one_is_written_where_many_records_wait(
    scheduler: CommitScheduler, held: Held
) -> None:
    Lane(scheduler, 0).go()
    await settle()
    few = Lane(scheduler, 1, RECORDS_MAX - 1).go()
    await settle()
    assert steps(few) == ["waits"]

    many = Lane(scheduler, 2, 1).go()
    await settle()
    assert held.written == [[0], [1, 2]]

    third = Lane(scheduler, 3, 10 * RECORDS_MAX).go()
    await settle()
    assert steps(few, many, third) == ["writes", "writes", "waits"]
    assert len(held.commits) == TRANSACTIONS_AT_ONCE

    held.end(1)
    await settle()
    assert steps(few, many, third) == ["done", "done", "writes"]
    assert held.written == [[0], [1, 2], [3]]


async def test_none_is_staged_while_another_is_not_staged_yet(
    scheduler: CommitScheduler, held: Held
) -> None:
    slow = Lane(scheduler, 0)
    await settle()
    many = Lane(scheduler, 1, 10 * RECORDS_MAX).go()
    await settle()
    assert steps(slow, many) == ["stages", "waits"]

    slow.stage.set()
    await settle()
    assert held.written == [[0], [1]]


async def test_a_transaction_is_full_with_so_many_records_of_all_lanes(
    scheduler: CommitScheduler, held: Held
) -> None:
    blocker = Lane(scheduler, 0)
    await settle()
    each = RECORDS_MAX // 4
    for n in range(1, 11):
        Lane(scheduler, n, each).go()
    await settle()
    blocker.go()
    await settle()
    held.end(0)
    for number in range(1, 4):
        await settle()
        held.end(number)
    await settle()

    # Those that waited first come first, and none is left out.
    assert held.written == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


@pytest.mark.parametrize("admitted", [False, True], ids=["while it waits", "once admitted"])
async def test_a_cancelled_lane_holds_nobody_up(
    scheduler: CommitScheduler, held: Held, admitted: bool
) -> None:
    blocker = Lane(scheduler, 9).go()
    await settle()
    gone, other = Lane(scheduler, 0), Lane(scheduler, 1).go()
    await settle()
    if not admitted:
        gone.task.cancel()
        await settle()
    held.end(0)
    if admitted:
        await settle()
        assert steps(gone) == ["stages"]
        gone.task.cancel()
    await settle()

    assert held.written == [[9], [1]]
    held.end(1)
    await settle()
    assert steps(blocker, other) == ["done", "done"]
    assert gone.task.cancelled()
    last = Lane(scheduler, 2).go()
    await settle()
    assert steps(last) == ["writes"]


async def test_a_lane_that_is_cancelled_as_it_is_admitted_holds_nobody_up(
    scheduler: CommitScheduler, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = Lane(scheduler, 9).go()
    await settle()
    gone, other = Lane(scheduler, 0), Lane(scheduler, 1).go()
    await settle()
    begin = scheduler._begin

    def begin_and_cancel(now: float) -> None:
        # Its turn is there, and it has not seen it yet.
        begin(now)
        gone.task.cancel()

    monkeypatch.setattr(scheduler, "_begin", begin_and_cancel)
    held.end(0)
    await settle()

    assert gone.task.cancelled()
    assert steps(blocker, gone) == ["done", "waits"]
    assert held.written == [[9], [1]]
    held.end(1)
    await settle()
    assert steps(other) == ["done"]


async def test_a_lane_cancelled_while_it_is_written_leaves_its_part_in_it(
    scheduler: CommitScheduler, held: Held
) -> None:
    blocker = Lane(scheduler, 9).go()
    await settle()
    gone, other = Lane(scheduler, 0).go(), Lane(scheduler, 1).go()
    await settle()
    held.end(0)
    await settle()
    gone.task.cancel()
    await settle()
    assert steps(blocker, other) == ["done", "writes"]

    held.end(1)
    await settle()
    assert steps(other) == ["done"]
    assert held.written == [[9], [0, 1]]
    last = Lane(scheduler, 2).go()
    await settle()
    assert steps(last) == ["writes"]


@pytest.mark.parametrize("error", [Fenced("given away"), Crash("before the commit")])
async def test_a_failure_reaches_each_lane_of_its_transaction_and_no_other(
    scheduler: CommitScheduler, held: Held, error: Exception
) -> None:
    blocker = Lane(scheduler, 9).go()
    await settle()
    lanes = [Lane(scheduler, n, RECORDS_MAX // 2).go() for n in range(2)]
    await settle()
    waiting = Lane(scheduler, 2).go()
    await settle()
    assert held.written == [[9], [0, 1]]

    held.end(1, error)
    await settle()

    assert [lane.error for lane in lanes] == [error, error]
    assert steps(blocker, waiting) == ["writes", "waits"]
    held.end(0)
    await settle()
    held.end(2)
    await settle()
    assert steps(blocker, waiting) == ["done", "done"]
    assert held.written == [[9], [0, 1], [2]]


async def test_a_stage_that_fails_loses_no_other_lane(
    scheduler: CommitScheduler, held: Held
) -> None:
    blocker = Lane(scheduler, 9).go()
    await settle()
    lanes = [Lane(scheduler, n).go() for n in range(3)]
    lanes[1].in_stage = ValueError("a fault in the billing")
    await settle()
    held.end(0)
    await settle()

    assert held.written == [[9], [0, 2]]
    held.end(1)
    await settle()
    assert steps(blocker, *lanes) == ["done", "done", "failed", "done"]
    assert lanes[1].error is lanes[1].in_stage


async def test_lanes_that_write_nothing_have_no_transaction(
    scheduler: CommitScheduler, held: Held
) -> None:
    one, other = Lane(scheduler, 0), Lane(scheduler, 1)
    one.writes = other.writes = False
    one.go()
    other.go()
    await settle()

    assert held.commits == []
    assert steps(one, other) == ["done", "done"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_around_the_commit_has_the_rows_of_all_lanes_or_none(after: bool) -> None:
    log, scheduler = MemoryLog({"rows": TOPIC}), CommitScheduler(0.0)
    writer = await log.join(NO_MEMBER, range(3))
    await scheduler.use(writer)
    writer.crash_after_commit, writer.crash_before_commit = after, not after
    blocker = Lane(scheduler, 9)
    await settle()
    lanes = [Lane(scheduler, n).go() for n in range(3)]
    blocker.writes = False
    blocker.go()
    await settle()

    assert [type(lane.error) for lane in lanes] == [Crash] * 3
    assert [r.key for r in log.read(TOPIC)] == ([b"0", b"1", b"2"] if after else [])


async def test_what_comes_before_a_restore_fails_and_holds_up_nothing() -> None:
    scheduler = CommitScheduler(0.0)
    early = Lane(scheduler, 0).go()
    await settle()
    assert isinstance(early.error, RuntimeError)

    log = MemoryLog({"rows": TOPIC})
    await scheduler.use(await log.join(NO_MEMBER, [1]))
    later = Lane(scheduler, 1).go()
    await settle()
    assert steps(later) == ["done"]


@pytest.mark.parametrize("how", ["paused", "stopped"])
async def test_a_lane_that_comes_to_rest_while_it_waits_holds_nobody_up(how: str) -> None:
    partition = await Partition().restart()
    scheduler, lane = partition.lanes.scheduler, partition.lane
    blocker = Lane(scheduler, 9)
    blocker.writes = False
    await settle()
    created = record(names.MERCHANT_CREATED, 0, CREATED)
    batch = Batch(names.MERCHANT_CREATED, [created], 0, partition.lanes.epoch)
    lane.put(batch)
    await settle()

    await (lane.pause(0) if how == "paused" else lane.stop())
    blocker.go()
    other = Lane(scheduler, 0).go()
    await settle()

    assert steps(blocker, other) == ["done", "done"]
    assert partition.rows()["merchants"] == {}
    assert [r.key for r in partition.log.read(TOPIC)] == [b"0"]
    if how == "paused":
        # It goes on after the seek, and what waited comes again.
        partition.lanes.next_epoch()
        await partition.feed(created)
        assert M1 in partition.rows()["merchants"]


class Clock:
    """The time of a loop, which passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: self.now)
        monkeypatch.setattr(loop, "call_later", self._call_later)

    def _call_later(self, wait: float, wake: Callable[[], None]) -> "Clock.Timer":
        timer = (self.now + wait, wake)
        self.timers.append(timer)
        return Clock.Timer(self, timer)

    class Timer:
        """One that can be cancelled."""

        def __init__(self, clock: "Clock", timer: tuple[float, Callable[[], None]]) -> None:
            self._clock, self._timer = clock, timer

        def cancel(self) -> None:
            """It does not ring."""
            with suppress(ValueError):
                self._clock.timers.remove(self._timer)

    async def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        for timer in [one for one in self.timers if one[0] <= self.now]:
            self.timers.remove(timer)
            timer[1]()
        await settle()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_a_busy_worker_begins_no_transaction_before_the_interval_ends(
    clock: Clock, held: Held
) -> None:
    scheduler = CommitScheduler()
    await scheduler.use(held)
    first = Lane(scheduler, 0).go()
    await settle()
    held.end(0)
    await settle()
    assert steps(first) == ["done"], "the first does not wait"

    lanes = [Lane(scheduler, n).go() for n in range(1, 4)]
    await clock.passes(COMMIT_INTERVAL_SECONDS / 2)
    assert steps(*lanes) == ["waits"] * 3
    await clock.passes(COMMIT_INTERVAL_SECONDS)

    assert held.written == [[0], [1, 2, 3]]
    assert clock.timers == []


async def test_the_interval_is_not_awaited_where_many_records_wait(
    clock: Clock, held: Held
) -> None:
    scheduler = CommitScheduler()
    await scheduler.use(held)
    Lane(scheduler, 0).go()
    await settle()
    held.end(0)
    await settle()
    few = Lane(scheduler, 1, RECORDS_AT_ONCE - 1).go()
    await settle()
    assert steps(few) == ["waits"]

    many = Lane(scheduler, 2, 1).go()
    await settle()

    assert steps(few, many) == ["writes", "writes"]
    assert clock.timers == [], "the timer of the first is stopped"
