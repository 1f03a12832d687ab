"""One answer for all who look at the same time: what costs something is asked for once."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Generic, TypeVar

Content = TypeVar("Content")


class Shared(Generic[Content]):
    """The answer of `ask`, kept for some seconds. A failure is not kept."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[Content]],
        seconds: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._ask = ask
        self._seconds = seconds
        self._clock = clock
        self._task: asyncio.Task[Content] | None = None
        self._until = 0.0

    async def get(self) -> Content:
        """The answer. Raises what `ask` raises."""
        task = self._task
        if task is None or (task.done() and (self._failed(task) or self._clock() >= self._until)):
            task = self._task = asyncio.create_task(self._asked())
            # Also where nobody waits any more, so that nothing is said of it at the end.
            task.add_done_callback(self._failed)
        # Who waits may give up; the others go on waiting.
        return await asyncio.shield(task)

    def forget(self) -> None:
        """Ask again the next time, because something was just changed."""
        self._until = 0.0

    async def close(self) -> None:
        """End the request under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _asked(self) -> Content:
        self._until = float("inf")
        found = await self._ask()
        self._until = self._clock() + self._seconds
        return found

    @staticmethod
    def _failed(task: asyncio.Task[Content]) -> bool:
        return task.cancelled() or task.exception() is not None
