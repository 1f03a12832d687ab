"""Ends a process that does not stop; the last line of its log lists all that still runs."""

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Awaitable, Iterator
from types import FrameType
from typing import Any

from mode import Service

from billing_stream.engine.fatal import die

logger = logging.getLogger(__name__)

FRAMES_MAX = 8
LINES_MAX = 80


def end_hard_after(
    seconds: float, loop: asyncio.AbstractEventLoop, root: Service | None = None
) -> None:
    """End the process with EXIT_FATAL, unless it has ended by then.

    `root` is the service that stops, in a process of mode.
    """

    def end_hard() -> None:
        try:
            running = "; ".join(unfinished(loop, root))
        except Exception as error:
            running = f"not known: {error!r}"
        die(f"it does not stop. Still running: {running}")

    # A thread: the event loop may be what is stuck.
    guard = threading.Timer(seconds, end_hard)
    guard.name, guard.daemon = "stop-guard", True
    guard.start()


def stopped_by_signals(seconds: float) -> asyncio.Event:
    """An event that SIGTERM and SIGINT set, in the running loop; then as `end_hard_after`."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        if not stopping.is_set():
            end_hard_after(seconds, loop)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopping


async def finish(work: Awaitable[Any], seconds: float, what: str) -> None:
    """Wait for `work`, at most `seconds`. Never raises its error: that is logged."""
    task = asyncio.ensure_future(work)
    # Not wait_for: it would raise the errors of the work, CancelledError too.
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        logger.warning("%s takes longer than %.0f s, at %s", what, seconds, describe(task))
        task.cancel()
    elif task.cancelled():
        logger.warning("%s was cancelled", what)
    elif task.exception() is not None:
        logger.warning("%s failed: %r", what, task.exception())


def unfinished(loop: asyncio.AbstractEventLoop, root: Service | None = None) -> list[str]:
    """One line for each service that was not asked to stop, each task and each other thread.

    May be called from any thread.
    """
    lines = [f"service {s.label}" for s in _services(root) if s.started and not s.should_stop]
    lines += [f"task {describe(task)}" for task in asyncio.all_tasks(loop) if not task.done()]
    frames = sys._current_frames()
    lines += [
        f"thread {thread.name}: {_stack(frames[thread.ident])}"
        for thread in threading.enumerate()
        if thread.ident in frames and thread is not threading.current_thread()
    ]
    return lines[:LINES_MAX]


def describe(task: "asyncio.Future[Any]") -> str:
    """A task and where it waits: `name: outer > ... > inner:line`.

    A method has the class of its object before it, so that the line says which service it is of.
    """
    if not isinstance(task, asyncio.Task):
        return repr(task)
    parts: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = _first(awaited, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            parts.append(_place(frame))
        awaited = _first(awaited, "cr_await", "gi_yieldfrom", "ag_await")
    return f"{task.get_name()[:60]}: {' > '.join(parts[-FRAMES_MAX:])}"


def _services(root: Service | None) -> Iterator[Service]:
    """The services below this one, each once; the tree of mode may have loops."""
    left: list[Any] = [root]
    seen: set[int] = set()
    while left:
        found = left.pop()
        # Nodes of the tree have services as children, and other nodes.
        service = found if isinstance(found, Service) else getattr(found, "data", None)
        if isinstance(service, Service) and id(service) not in seen:
            seen.add(id(service))
            yield service
            left += service.beacon.children


def _first(found: Any, *names: str) -> Any:
    return next((value for n in names if (value := getattr(found, n, None)) is not None), None)


def _stack(frame: FrameType | None) -> str:
    parts: list[str] = []
    while frame is not None and len(parts) < FRAMES_MAX:
        parts.insert(0, _place(frame))
        frame = frame.f_back
    return " > ".join(parts)


def _place(frame: FrameType) -> str:
    code, owner = frame.f_code, frame.f_locals.get("self")
    name = code.co_qualname if owner is None else f"{type(owner).__name__}.{code.co_name}"
    return f"{name}:{frame.f_lineno}"
