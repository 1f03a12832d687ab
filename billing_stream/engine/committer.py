"""Commits whatever waits for a partition, one transaction at a time, and only then shows it.

What waits are batches from the agents, commands from the web, and what fell due.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from structlog.contextvars import bind_contextvars

from billing_stream.engine.commit_scheduler import CommitScheduler, Turn
from billing_stream.engine.crash_points import CrashHook, CrashPoint, no_crash
from billing_stream.engine.input_commands import judge_logs
from billing_stream.engine.log import OWNER_KEY, Fenced, Part
from billing_stream.engine.observer import Observer, Transaction
from billing_stream.engine.partition_inputs import Batch, Inputs, StagedInputs
from billing_stream.engine.partition_processor import MustWait, Outgoing, Processor, Request, Stage
from billing_stream.records.timestamps import utc_now
from billing_stream.records.topics import JOURNAL, MERCHANT_CREATED
from billing_stream.records.upcasting.versions import WRITTEN

# Of one lane in one transaction.
RECORDS_PER_COMMIT_MAX = 2_000
# So many records wait in a lane, and those of one fetch, before no more are fetched for it.
RECORDS_WAITING_MAX = 8_000


@dataclass(slots=True)
class Waiting:
    """A command, and who waits for its reply."""

    request: Request
    answer: "asyncio.Future[Any]"


@dataclass(slots=True)
class LaneStats:
    """What a lane has done since it started."""

    records: int = 0
    transactions: int = 0
    last_commit: float = field(default=0.0)


Clock = Callable[[], datetime]
Die = Callable[[str, BaseException | None], object]
Lose = Callable[[int, Fenced], object]
P = TypeVar("P", bound=Processor)


class Committer(Generic[P]):
    """The one writer of a partition. `die` must not return to one that failed.

    `lose` is called when the group has given the partition away: nothing is committed any more, and
    the rows may be old. `scheduler` has the lane wait for its turn, and writes.
    """

    def __init__(
        self,
        partition: int,
        processor: P,
        scheduler: CommitScheduler,
        *,
        inputs: Inputs,
        positions_topic: str,
        die: Die,
        lose: Lose,
        clock: Clock = utc_now,
        crash_hook: CrashHook = no_crash,
        observer: Observer | None = None,
    ) -> None:
        self.partition = partition
        self.processor = processor
        self.inputs = inputs
        self.epoch = 0
        self.stats = LaneStats()
        self._scheduler = scheduler
        self._positions_topic = positions_topic
        self._journal_topic = processor.names.name(JOURNAL)
        self._first_input = processor.names.name(MERCHANT_CREATED)
        self._die = die
        self._lose = lose
        self._clock = clock
        self._batches: deque[Batch] = deque()
        self._under_way: Sequence[Waiting] = ()
        self._records_waiting = 0
        self._requests: deque[Waiting] = deque()
        self._due = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = asyncio.Event()
        self._open.set()
        self._task: asyncio.Task[None] | None = None
        self._time = asyncio.get_running_loop().time
        self._began = 0.0
        self._crash_hook = crash_hook
        self._observer = observer

    def put(self, batch: Batch) -> None:
        """Queue a batch. One of an earlier epoch is passed over: it is delivered again."""
        if batch.epoch == self.epoch:
            self._batches.append(batch)
            self._records_waiting += batch.weight
            self._wake.set()

    @property
    def records_waiting(self) -> int:
        """Records that were fetched and are in no transaction yet, as `Batch.weight` counts."""
        return self._records_waiting

    @property
    def is_full(self) -> bool:
        """Whether nothing more shall be fetched for it now."""
        return self._records_waiting >= RECORDS_WAITING_MAX

    async def _run(self) -> None:
        # Of every line that is logged in this task, once, and not for each record.
        bind_contextvars(partition=self.partition)
        try:
            while True:
                await self._wake.wait()
                await self._open.wait()
                self._wake.clear()
                while self._has_work() and self._open.is_set():
                    async with self._scheduler.turn(self._records_waiting) as turn:
                        await self._commit_one(turn)
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise
        except Fenced as error:
            self._lose(self.partition, error)
        except BaseException as error:
            self._die(f"partition {self.partition} cannot commit", error)

    async def _commit_one(self, turn: Turn) -> None:
        # It may have been paused while it waited.
        if not self._open.is_set():
            return
        self._idle.clear()
        self._began = self._time()
        await self._commit(turn)
        self._idle.set()

    def _has_work(self) -> bool:
        return bool(self._batches or self._requests or self._due or self.inputs.has_work)

    async def _commit(self, turn: Turn) -> None:
        """One transaction. The order of the steps is what makes it exactly once."""
        # 1. Decide, on a stage laid over what was committed. Nothing is visible yet, so a
        #    failure from here to 3 loses nothing and grants nothing.
        stage = self.processor.begin()
        taken = self._take_batches()
        inputs = StagedInputs(self.inputs, stage, self._clock())
        if self.inputs.found:
            judge_logs(inputs)
        inputs.add(taken)
        if inputs.must_wait:
            self._hold_back(inputs.waiting)
        waiting: list[Waiting] = []
        replies: list[Any] = []
        if self._requests or self._due:
            waiting, replies = self._stage_requests(stage, inputs)
        # 2. Collect, with order and positions among the records: written elsewhere, a crash
        #    between the two would repeat or lose the inputs.
        records = inputs.order.records(self._journal_topic)
        records += stage.outgoing()
        records += inputs.records(self._positions_topic)
        if waiting and not records:
            # What changes nothing is written too, or a worker that has lost the partition and
            # does not know it yet would answer from old rows.
            records = [Outgoing(self._positions_topic, OWNER_KEY, b"", WRITTEN)]
        self._pass(CrashPoint.STAGED)
        # 3. Write and commit. An error here leaves it open whether it is committed, so
        #    the process must end and read the truth from the log.
        self._under_way = waiting
        if records:
            await turn.commit(Part(self.partition, records, inputs.position(self._first_input)))
        self._pass(CrashPoint.COMMITTED)
        # 4. Apply. Earlier, a reader could see what then was never committed.
        stage.apply()
        inputs.apply()
        self.stats.records += sum(count.records for count in inputs.counts)
        self.stats.transactions += bool(records)
        self.stats.last_commit = asyncio.get_running_loop().time()
        self._pass(CrashPoint.APPLIED)
        # 5. Answer. Earlier, a caller could hold an answer that a crash takes back.
        for entry, reply in zip(waiting, replies, strict=True):
            if not entry.answer.done():
                answer = entry.answer
                failed = isinstance(reply, Exception)
                answer.set_exception(reply) if failed else answer.set_result(reply)
        self._under_way = ()
        if self._observer is not None:
            requests = [entry.request for entry in waiting]
            seconds = self._time() - self._began
            done = (self.partition, inputs.counts, requests, replies, records, stage, seconds)
            self._observer.committed(Transaction(*done))

    def _pass(self, point: CrashPoint) -> None:
        """End the process here, where a test wants it."""
        if self._crash_hook is not no_crash:
            self._crash_hook(point)

    def _take_batches(self) -> list[Batch]:
        taken: list[Batch] = []
        count = 0
        while self._batches and count < RECORDS_PER_COMMIT_MAX:
            batch = self._batches.popleft()
            taken.append(batch)
            count += batch.weight
        self._records_waiting -= count
        return taken

    def _hold_back(self, held: Sequence[Batch]) -> None:
        """Put them back into the queue, behind other topics; due deadlines go first."""
        names = {batch.name for batch in held}
        waiting = sorted((*held, *self._batches), key=lambda batch: batch.name in names)
        self._batches = deque(waiting)
        self._records_waiting += sum(batch.weight for batch in held)
        self._due = True

    def _stage_requests(
        self, stage: Stage, inputs: StagedInputs
    ) -> tuple[list[Waiting], list[Any]]:
        now, positions = self._clock(), inputs.positions
        if self._due:
            self._due = stage.expire_overdue(now, positions)
        waiting, replies, held = [], [], []
        for entry in self._requests:
            try:
                replies.append(stage.add_request(entry.request, now, positions))
                waiting.append(entry)
            except MustWait:
                held.append(entry)
                self._due = True
        self._requests = deque(held)
        return waiting, replies
