"""A lane: everything that happens to one partition, in one order, one transaction at a time.

It takes input batches from the agents, commands from the web and wake-ups from the timer,
commits whatever is waiting at once, and only then shows it to anyone.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from structlog.contextvars import bind_contextvars

from billing_stream.engine.batch import Batch
from billing_stream.engine.broker_time import utc_now
from billing_stream.engine.crash_points import CrashHook, CrashPoint, no_crash
from billing_stream.engine.input_rows import StoppedInput
from billing_stream.engine.log import OWNER_KEY, Fenced, Writer
from billing_stream.engine.observer import NO_OBSERVER, Observer, Transaction
from billing_stream.engine.partition_inputs import Inputs, StagedInputs
from billing_stream.engine.partition_processor import (
    MustWait,
    Outgoing,
    Processor,
    Request,
    Stage,
)
from billing_stream.kafka.topic_logs import FoundLog
from billing_stream.records.upcasting.versions import WRITTEN

logger = logging.getLogger(__name__)

# One transaction: enough to make its cost per record small, few enough to keep it short.
RECORDS_PER_COMMIT_MAX = 2_000
# Records waiting in a lane before its agents have to wait.
RECORDS_WAITING_MAX = 8_000
REQUESTS_WAITING_MAX = 1_000
# A quiet lane commits at once. A busy one begins a transaction so often at most, unless
# this many records wait: a transaction costs broker and worker about a millisecond of
# processor time, however small it is.
COMMIT_INTERVAL_SECONDS = 0.02
RECORDS_AT_ONCE = 200
NO_EPOCH = -1


class NotReady(Exception):
    """The lane takes no commands now: it is leaving this worker, or is full."""


class OutcomeUnknown(Exception):
    """The lane lost its partition while the command's transaction was under way."""


@dataclass(slots=True)
class _Waiting:
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


class Lane:
    """The one writer of a partition. `die` must not return to a lane that failed.

    `lose` is called when the partition's transactional ids were taken: the lane commits nothing
    any more, its rows may be old, and only `stop` is left. `slots` bounds the transactions that
    the lanes of a worker have open at once.
    """

    def __init__(
        self,
        partition: int,
        processor: Processor,
        writer: Writer,
        *,
        inputs: Inputs,
        positions_topic: str,
        die: Die,
        lose: Lose,
        clock: Clock = utc_now,
        commit_interval: float = COMMIT_INTERVAL_SECONDS,
        slots: asyncio.Semaphore | None = None,
        crash_hook: CrashHook = no_crash,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self.partition = partition
        self.processor = processor
        self.inputs = inputs
        self.epoch = 0
        self.stats = LaneStats()
        self._writer = writer
        self._positions_topic = positions_topic
        self._die = die
        self._lose = lose
        self._clock = clock
        self._batches: deque[Batch] = deque()
        self._under_way: tuple[Sequence[Batch], Sequence[_Waiting]] = (), ()
        self._records_waiting = 0
        self._requests: deque[_Waiting] = deque()
        self._due = False
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = asyncio.Event()
        self._open.set()
        self._task: asyncio.Task[None] | None = None
        self._time = asyncio.get_running_loop().time
        self._began = 0.0
        self._commit_interval = commit_interval
        self._slots = slots or asyncio.Semaphore(1)
        self._crash_hook = crash_hook
        self._observer = observer

    def start(self) -> None:
        """Begin to commit; a lane that has begun goes on."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"lane-{self.partition}")

    # -- in

    async def put(self, batch: Batch) -> None:
        """Queue a batch; waits while the lane is full."""
        await self._room.wait()
        if batch.epoch != self.epoch:
            batch.acknowledge()
            return
        self._batches.append(batch)
        self._records_waiting += batch.weight
        if self._records_waiting >= RECORDS_WAITING_MAX:
            self._room.clear()
        self._wake.set()

    def ask(self, request: Request) -> "asyncio.Future[Any]":
        """Queue a command; the future has its reply once its transaction has committed.

        Raises NotReady when the lane stopped or too many commands wait.
        """
        if self._task is None or self._task.done() or not self._open.is_set():
            raise NotReady(f"partition {self.partition} is moving")
        if len(self._requests) >= REQUESTS_WAITING_MAX:
            raise NotReady(f"partition {self.partition} has too many waiting commands")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._requests.append(_Waiting(request, answer))
        self._wake.set()
        return answer

    def wake_if_due(self) -> None:
        """Let happen what fell due by now. Costs nothing when nothing did."""
        due = self.processor.next_due()
        if due is not None and due <= self._clock():
            self._due = True
            self._wake.set()

    def compare(self, name: str, found: FoundLog) -> None:
        """Compare the position in an input with its log, in the next transaction.

        To be called while nothing of the input waits in this lane; nothing may be fetched of it
        before the outcome.
        """
        self.inputs.found[name] = found
        self._wake.set()

    # -- around a rebalance

    async def pause(self, drain_seconds: float) -> None:
        """Commit what waits, for so long at most, then begin no more transactions."""
        if self._task is not None and not self._task.done() and self._open.is_set():
            try:
                await asyncio.wait_for(self._wait_drained(), drain_seconds)
            except TimeoutError:
                logger.info("partition %s pauses with records waiting", self.partition)
        self._open.clear()
        await self._idle.wait()

    def resume(self, epoch: int) -> None:
        """Go on after a seek: what was delivered before it comes again."""
        self._forget_batches()
        self.epoch = epoch
        self._open.set()
        self._wake.set()

    async def stop(self) -> None:
        """End the lane. Commands that wait were not carried out, and are told so."""
        self._open.clear()
        # What waits in `put` for room, and what comes later, is not for this lane any more.
        self.epoch = NO_EPOCH
        await self._idle.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._forget_batches()
        while self._requests:
            answer = self._requests.popleft().answer
            if not answer.done():
                answer.set_exception(NotReady(f"partition {self.partition} moved away"))
        await self._writer.close()

    @property
    def positions(self) -> Mapping[str, int]:
        """The offset of the record to be processed next of each input, by its name."""
        return self.inputs.positions

    @property
    def stopped(self) -> Mapping[str, StoppedInput]:
        """The inputs that are stopped, by name."""
        return self.inputs.stopped

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and nothing is being committed."""
        return self._idle.is_set() and not self._batches and not self._requests

    @property
    def records_waiting(self) -> int:
        """Records that were fetched and are in no transaction yet, as `Batch.weight` counts."""
        return self._records_waiting

    @property
    def seconds_since_commit(self) -> float | None:
        """How long ago the last transaction was, None when there was none."""
        last = self.stats.last_commit
        return self._time() - last if last else None

    async def _wait_drained(self) -> None:
        while not self.is_idle:
            await self._idle.wait()
            await asyncio.sleep(0.001)

    def _forget_batches(self) -> None:
        for batch in self._batches:
            batch.acknowledge()
        self._batches.clear()
        self._records_waiting = 0
        self._room.set()

    # -- the loop

    async def _run(self) -> None:
        # Of every line that is logged in this task, once, and not for each record.
        bind_contextvars(partition=self.partition)
        try:
            while True:
                await self._wake.wait()
                await self._open.wait()
                self._wake.clear()
                while self._has_work() and self._open.is_set():
                    await self._gather_some()
                    async with self._slots:
                        await self._commit_one()
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise
        except Fenced as error:
            self._give_up()
            self._lose(self.partition, error)
        except BaseException as error:
            self._die(f"partition {self.partition} cannot commit", error)

    def _give_up(self) -> None:
        self._open.clear()
        self._idle.set()
        batches, waiting = self._under_way
        for batch in batches:
            batch.acknowledge()
        # The commit may have been carried out, and only its answer was lost.
        for entry in waiting:
            if not entry.answer.done():
                entry.answer.set_exception(OutcomeUnknown(f"partition {self.partition} was lost"))

    async def _commit_one(self) -> None:
        # It may have been paused while it waited.
        if not self._open.is_set():
            return
        self._idle.clear()
        self._began = self._time()
        await self._commit()
        self._idle.set()

    def _has_work(self) -> bool:
        return bool(self._batches or self._requests or self._due or self.inputs.has_work)

    async def _gather_some(self) -> None:
        """Let more records come, when the last transaction began only just now."""
        wait = self._began + self._commit_interval - self._time()
        if wait > 0 and self._records_waiting < RECORDS_AT_ONCE:
            await asyncio.sleep(wait)

    async def _commit(self) -> None:
        """One transaction. The order of the steps is what makes it exactly once."""
        # 1. Decide, on a stage laid over what was committed. Nothing is visible yet, so a
        #    failure from here to 3 loses nothing and grants nothing.
        stage = self.processor.begin()
        taken = self._take_batches()
        inputs = StagedInputs(self.inputs, stage, self._clock())
        inputs.judge()
        inputs.add(taken)
        batches = self._hold_back(taken, inputs.waiting)
        waiting, replies = self._stage_requests(stage, inputs)
        # 2. Collect, with the positions among the records: written elsewhere, a crash
        #    between the two would repeat or lose the inputs.
        records = list(stage.outgoing())
        records += inputs.records(self._positions_topic)
        if waiting and not records:
            # What changes nothing is written too, or a worker that has lost the partition and
            # does not know it yet would answer from old rows.
            records = [Outgoing(self._positions_topic, OWNER_KEY, b"", WRITTEN)]
        self._crash_hook(CrashPoint.STAGED)
        # 3. Write and commit. An error here leaves it open whether it is committed, so
        #    the process must end and read the truth from the log.
        self._under_way = batches, waiting
        if records:
            await self._writer.commit(records)
        self._crash_hook(CrashPoint.COMMITTED)
        # 4. Apply. Earlier, a reader could see what then was never committed.
        stage.apply()
        inputs.apply()
        self.stats.records += sum(count.records for count in inputs.counts)
        self.stats.transactions += bool(records)
        self.stats.last_commit = asyncio.get_running_loop().time()
        self._crash_hook(CrashPoint.APPLIED)
        # 5. Answer. Earlier, a caller could hold an answer that a crash takes back.
        for entry, reply in zip(waiting, replies, strict=True):
            if not entry.answer.done():
                answer = entry.answer
                failed = isinstance(reply, Exception)
                answer.set_exception(reply) if failed else answer.set_result(reply)
        # 6. Acknowledge the inputs, which only frees memory: where to go on stands in 2.
        for batch in batches:
            batch.acknowledge()
        self._under_way = (), ()
        requests = [entry.request for entry in waiting]
        seconds = self._time() - self._began
        self._observer.committed(
            Transaction(self.partition, inputs.counts, requests, replies, records, stage, seconds)
        )

    def _take_batches(self) -> list[Batch]:
        taken: list[Batch] = []
        count = 0
        while self._batches and count < RECORDS_PER_COMMIT_MAX:
            batch = self._batches.popleft()
            taken.append(batch)
            count += batch.weight
        self._records_waiting -= count
        if self._records_waiting < RECORDS_WAITING_MAX:
            self._room.set()
        return taken

    def _hold_back(self, batches: Sequence[Batch], held: Sequence[Batch]) -> Sequence[Batch]:
        """The batches that are in this transaction; of the others a record must wait."""
        if not held:
            return batches
        # Back into the queue, behind other topics, and what is due goes first.
        names = {batch.name for batch in held}
        waiting = sorted((*held, *self._batches), key=lambda batch: batch.name in names)
        self._batches = deque(waiting)
        self._records_waiting += sum(batch.weight for batch in held)
        self._due = True
        return [batch for batch in batches if all(batch is not one for one in held)]

    def _stage_requests(
        self, stage: Stage, inputs: StagedInputs
    ) -> tuple[list[_Waiting], list[Any]]:
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
