"""One transaction for all lanes of a worker that have something to commit.

A lane waits for its turn. When no transaction is being made, and a short time after the last one
began, all lanes that wait stage, each by itself, and what they staged is written as one. Then each
applies and answers, and the next transaction can begin.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from billing_stream.engine.log import Part, Writer

# Records of all lanes in one transaction: enough to make its cost per record small, few enough to
# keep it short.
RECORDS_MAX = 2_000
# A transaction costs broker and worker about a millisecond of processor time, however small it is.
# So a busy worker begins one so often at most, unless this many records wait.
COMMIT_INTERVAL_SECONDS = 0.01
RECORDS_AT_ONCE = 1_000
# One is staged while the other is written, when more records wait than one takes.
TRANSACTIONS_AT_ONCE = 2


class Turn:
    """A lane's part in one transaction."""

    def __init__(self, combined: "_Combined") -> None:
        self._combined = combined
        self._staged = False

    async def commit(self, part: Part) -> None:
        """Write it, together with the parts of other lanes. Raises what `Writer.commit` raises."""
        self._staged = True
        self._combined.add(part)
        await asyncio.shield(self._combined.written)

    def end(self) -> None:
        """The lane has applied what was written, or wrote nothing."""
        if not self._staged:
            self._combined.add(None)
        self._combined.end_one()


class _Combined:
    """A transaction of `lanes` lanes; each of them adds its part or nothing."""

    def __init__(self, scheduler: "CommitScheduler", lanes: int) -> None:
        self._scheduler = scheduler
        self._stages = self._applies = lanes
        self.parts: list[Part] = []
        self.written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def staged(self) -> bool:
        """Whether all of its lanes have staged."""
        return self._stages == 0

    def add(self, part: Part | None) -> None:
        """Take what a lane has staged."""
        if part is not None:
            self.parts.append(part)
        self._stages -= 1
        if self.staged:
            self._scheduler.write(self)

    def end_one(self) -> None:
        """One of its lanes is done with it."""
        self._applies -= 1
        if self._applies == 0:
            self._scheduler.ended(self)


class CommitScheduler:
    """Gives turns to the lanes of one worker. `writer` is set before the first of them starts."""

    def __init__(self, interval: float = COMMIT_INTERVAL_SECONDS) -> None:
        self.writer: Writer | None = None
        self.interval = interval
        self._waiting: deque[tuple[asyncio.Future[_Combined], int]] = deque()
        self._open: list[_Combined] = []
        self._began = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._writes: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def turn(self, records: int) -> AsyncIterator[Turn]:
        """Wait until this lane may stage; `records` wait in it. All it does is over at the end."""
        waiter: asyncio.Future[_Combined] = asyncio.get_running_loop().create_future()
        self._waiting.append((waiter, records))
        self._look()
        try:
            turn = Turn(await waiter)
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                Turn(waiter.result()).end()
            raise
        try:
            yield turn
        finally:
            turn.end()

    @property
    def next_begin(self) -> float:
        """When the next transaction may begin, as the time of the loop."""
        return self._began + self.interval

    def _look(self) -> None:
        """Begin a transaction, if it is time."""
        if not self._waiting or any(not one.staged for one in self._open):
            return
        if self._open and not (
            self._records() >= RECORDS_MAX and len(self._open) < TRANSACTIONS_AT_ONCE
        ):
            # Its lanes may have more to do: together with those that wait it costs less.
            return
        loop = asyncio.get_running_loop()
        wait = self.next_begin - loop.time()
        if wait > 0 and self._records() < RECORDS_AT_ONCE:
            if self._timer is None:
                self._timer = loop.call_later(wait, self._wake)
            return
        self._begin(loop.time())

    def _records(self) -> int:
        return sum(records for _, records in self._waiting)

    def _wake(self) -> None:
        self._timer = None
        self._look()

    def _begin(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        taken: list[asyncio.Future[_Combined]] = []
        count = 0
        while self._waiting and count < RECORDS_MAX:
            waiter, records = self._waiting.popleft()
            if not waiter.done():
                taken.append(waiter)
                count += records
        if not taken:
            return
        self._began = now
        combined = _Combined(self, len(taken))
        self._open.append(combined)
        for waiter in taken:
            waiter.set_result(combined)

    def write(self, combined: _Combined) -> None:
        """All of its lanes have staged."""
        if not combined.parts:
            combined.written.set_result(None)
            return
        # Not kept here: a lane that rests has its last turn, and with it the records of all lanes.
        parts, combined.parts = combined.parts, []
        task = asyncio.get_running_loop().create_task(self._write(parts, combined.written))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        self._look()

    async def _write(self, parts: Sequence[Part], written: "asyncio.Future[None]") -> None:
        try:
            if self.writer is None:
                raise RuntimeError("nothing can be staged before the first restore")
            await self.writer.commit(parts)
        except BaseException as error:
            written.set_exception(error)
            # Marks it as retrieved: each of its lanes may have been stopped.
            written.exception()
        else:
            written.set_result(None)

    def ended(self, combined: _Combined) -> None:
        """All of its lanes are done with it."""
        self._open.remove(combined)
        # After those lanes had the chance to wait for another turn.
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._look)

    async def use(self, writer: Writer | None) -> None:
        """Write with this one from here on; no lane has a turn. The one before is closed."""
        before, self.writer = self.writer, writer
        if before is not None:
            await before.close()
