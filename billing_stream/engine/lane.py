"""A lane: everything that happens to one partition, in one order, one transaction at a time.

It takes input batches from the agents, commands from the web and wake-ups from the timer. Here is
how it starts, pauses and stops around a rebalance; its transactions are in `committer.py`.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from billing_stream.engine.committer import Committer, P, Waiting
from billing_stream.engine.input_rows import StoppedInput
from billing_stream.engine.partition_processor import Request
from billing_stream.kafka.topic_logs import FoundLog

logger = logging.getLogger(__name__)

REQUESTS_WAITING_MAX = 1_000
NO_EPOCH = -1


class NotReady(Exception):
    """The lane takes no commands now: it is leaving this worker, or is full."""


class OutcomeUnknown(Exception):
    """The lane lost its partition while the command's transaction was under way."""


class Lane(Committer[P]):
    """The one writer of a partition, from the first transaction after a restore to the last.

    After `lose` was called only `stop` is left.
    """

    def start(self) -> None:
        """Begin to commit; a lane that has begun continues."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"lane-{self.partition}")

    # -- in

    def ask(self, request: Request) -> "asyncio.Future[Any]":
        """Queue a command; the future has its reply once its transaction has committed.

        Raises NotReady when the lane stopped or too many commands wait.
        """
        if self._task is None or self._task.done() or not self._open.is_set():
            raise NotReady(f"partition {self.partition} is moving")
        if len(self._requests) >= REQUESTS_WAITING_MAX:
            raise NotReady(f"partition {self.partition} has too many waiting commands")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._requests.append(Waiting(request, answer))
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
        """Commit what waits, for up to `drain_seconds`, then begin no more transactions."""
        if self._task is not None and not self._task.done() and self._open.is_set():
            try:
                await asyncio.wait_for(self._wait_drained(), drain_seconds)
            except TimeoutError:
                logger.info("partition %s pauses with records waiting", self.partition)
        self._open.clear()
        await self._idle.wait()

    def resume(self, epoch: int) -> None:
        """Continue after a seek: what was delivered before it is delivered again."""
        self._forget_batches()
        self.epoch = epoch
        self._open.set()
        self._wake.set()

    async def stop(self) -> None:
        """End the lane. Commands that wait were not carried out, and fail with NotReady."""
        self._open.clear()
        # What comes later is not for this lane any more.
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

    def give_up(self) -> None:
        """Commit nothing any more: the group has given the partition away."""
        self._open.clear()
        self._idle.set()
        # The commit may have been carried out, and only its answer was lost.
        for entry in self._under_way:
            if not entry.answer.done():
                entry.answer.set_exception(OutcomeUnknown(f"partition {self.partition} was lost"))

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
    def seconds_since_commit(self) -> float | None:
        """How long ago the last transaction was, None when there was none."""
        last = self.stats.last_commit
        return self._time() - last if last else None

    async def _wait_drained(self) -> None:
        while not self.is_idle:
            await self._idle.wait()
            await asyncio.sleep(0.001)

    def _forget_batches(self) -> None:
        self._batches.clear()
        self._records_waiting = 0
