"""Where a thread spends its time: stages that nest, each counted without what is inside it.

Stages are told apart by the wall clock, which is cheap enough to be read for every record,
and scaled to the processor time of all of them together: whatever else runs on the machine
takes its time from each in proportion.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from threading import get_ident, main_thread
from typing import Any

wall = time.perf_counter
cpu = time.thread_time


class Meter:
    """Times what runs on the main thread."""

    def __init__(self) -> None:
        self._wall: dict[str, float] = defaultdict(float)
        self._cpu = 0.0
        self._began = 0.0
        self._stack: list[str] = []
        self._last = 0.0
        self.pairs = 0

    def reset(self) -> None:
        """Forget what was counted, also of what runs just now."""
        self._wall.clear()
        self._cpu = 0.0
        self.pairs = 0
        self._began, self._last = cpu(), wall()

    def enter(self, stage: str) -> None:
        """Begin a stage, inside the one that runs."""
        now = wall()
        if self._stack:
            self._wall[self._stack[-1]] += now - self._last
        else:
            self._began = cpu()
            now = wall()
        self._stack.append(stage)
        self._last = now

    def leave(self) -> None:
        """End the stage that was entered last."""
        now = wall()
        self._wall[self._stack.pop()] += now - self._last
        self._last = now
        self.pairs += 1
        if not self._stack:
            self._cpu += cpu() - self._began

    def seconds(self) -> dict[str, float]:
        """Processor seconds by stage."""
        total = sum(self._wall.values())
        scale = self._cpu / total if total else 0.0
        return {stage: seconds * scale for stage, seconds in self._wall.items()}

    def cost_seconds(self) -> float:
        """About how much of it all is the cost of the metering itself."""
        tries, probe = 10_000, Meter()
        nothing = probe.calls("inner", lambda: None)
        probe.enter("outer")
        began = cpu()
        for _ in range(tries):
            nothing()
        return (cpu() - began) / tries * self.pairs

    def calls(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, as a stage; on other threads as it was."""
        main = main_thread().ident

        @wraps(function)
        def metered(*args: Any, **options: Any) -> Any:
            if get_ident() != main:
                return function(*args, **options)
            self.enter(stage)
            try:
                return function(*args, **options)
            finally:
                self.leave()

        return metered

    def steps(
        self, stage: str, function: Callable[..., Coroutine[Any, Any, Any]]
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """The coroutine function, as a stage without the time in which it waits."""
        main = main_thread().ident

        @wraps(function)
        async def metered(*args: Any, **options: Any) -> Any:
            if get_ident() != main:
                return await function(*args, **options)
            return await _Steps(self, stage, function(*args, **options))

        return metered


class _Steps:
    """Drives a coroutine step by step."""

    def __init__(self, meter: Meter, stage: str, work: Coroutine[Any, Any, Any]) -> None:
        self._meter = meter
        self._stage = stage
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        meter, stage, work = self._meter, self._stage, self._work
        given: Any = None
        thrown: BaseException | None = None
        while True:
            meter.enter(stage)
            try:
                waits_for = work.send(given) if thrown is None else work.throw(thrown)
            except StopIteration as done:
                return done.value
            finally:
                meter.leave()
            given = thrown = None
            try:
                given = yield waits_for
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the work's
                thrown = error
