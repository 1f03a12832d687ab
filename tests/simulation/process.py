"""What can befall a simulated process: it stops at a point, stands still, or loses an answer."""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from billing_stream.engine.crash_points import CrashPoint


class Crashed(Exception):
    """The process ended here."""


class ConnectionLost(ConnectionError):
    """Nobody knows whether what was asked for has been done."""


class Fault(Enum):
    """What happens at a gate, or to a request.

    `LATE`: it is repeated, and the first copy arrives some time; `REPEATED`: both arrive at once;
    `LOST`: its sender gives up, and it may still arrive.
    """

    NONE = "none"
    STALL = "stall"
    LOST = "lost"
    LATE = "late"
    REPEATED = "repeated"


Decide = Callable[["Process", CrashPoint | None], Fault]


class Process:
    """The way of one process through its points. `decide` says what happens at a gate."""

    def __init__(self, name: str, decide: Decide) -> None:
        self.name = name
        # Of a static member; one that takes its place has the same.
        self.worker = name
        self.dead = False
        # What each lane's part of a transaction was made of; the writer takes it at once.
        self.staged: dict[int, Sequence[Any]] = {}
        self.crash_at: CrashPoint | None = None
        self.passes_left = 0
        self.stalled: list[tuple[CrashPoint | None, asyncio.Future[None]]] = []
        self._decide = decide

    def crash_hook(self, point: CrashPoint) -> None:
        """The engine's hook: end the process where it was told to."""
        if self.dead:
            raise Crashed("dead already")
        if point is self.crash_at:
            if self.passes_left == 0:
                self.dead = True
                raise Crashed(point)
            self.passes_left -= 1

    async def gate(self, point: CrashPoint | None) -> None:
        """Go on, stand still for a while, or fail; a dead process never goes on."""
        fault = self._decide(self, point) if not self.dead else Fault.NONE
        if fault is Fault.LOST:
            raise ConnectionLost(point)
        if fault is Fault.STALL:
            await self._stand_still(point)
        if self.dead:
            await asyncio.get_running_loop().create_future()

    async def _stand_still(self, point: CrashPoint | None) -> None:
        until = asyncio.get_running_loop().create_future()
        self.stalled.append((point, until))
        try:
            await until
        finally:
            self.stalled.remove((point, until))

    def release(self) -> None:
        """Let everything go on that stands still."""
        for _, until in self.stalled:
            if not until.done():
                until.set_result(None)
