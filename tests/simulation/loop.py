"""An event loop whose time is simulated: it never sleeps, and always does the same."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
# Nothing in the engine waits for less: whoever sleeps for it wakes when all else rests.
REST_SECONDS = 1e-4
# Somebody who polls without a pause (a lane that is to drain does) sees time pass, too.
BUSY_ROUNDS = 500
BUSY_SECONDS = 1e-3


class Stuck(Exception):
    """Nothing can happen any more, and somebody still waits."""


class _Selector(selectors.DefaultSelector):
    """Takes the wait for a timer as done."""

    now = 0.0
    _busy = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Nothing ever comes from outside; move on to the next timer."""
        if timeout is None:
            raise Stuck("nothing is scheduled")
        self._busy = 0 if timeout > 0 else self._busy + 1
        self.now += max(timeout, 0.0) if self._busy < BUSY_ROUNDS else BUSY_SECONDS
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """Time passes only when nothing else is left to do."""

    def __init__(self) -> None:
        self._simulated = _Selector()
        super().__init__(self._simulated)

    def time(self) -> float:
        """Simulated seconds since the loop was made."""
        return self._simulated.now


async def rest(seconds: float = REST_SECONDS) -> None:
    """Return when nothing is left that could happen within `seconds`."""
    await asyncio.sleep(seconds)


def simulate(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a loop of its own; what still waits then is cancelled."""
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(work)
