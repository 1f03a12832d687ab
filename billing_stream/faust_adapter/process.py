"""The process of a Faust app: runs it until a signal, which stops it in steps."""

import asyncio
from collections.abc import Awaitable, Callable
from signal import Signals
from typing import Any

import faust

from billing_stream.faust_adapter.faust_app import App
from billing_stream.faust_adapter.unfinished import end_hard_after

# Compiled modules without which Faust is far slower.
EXTENSIONS = ("faust._cython.streams", "faust._cython.windows")

Drain = Callable[[], Awaitable[None]]
"""Awaited at the first signal, before the app is stopped."""


class DrainingWorker(faust.Worker):
    """Drains, then stops. A second signal ends it at once."""

    def __init__(self, app: App, drain: Drain, seconds_max: float, **options: Any) -> None:
        super().__init__(app, **options)
        self._drain = drain
        self._seconds_max = seconds_max
        self._draining: asyncio.Future[None] | None = None

    def _schedule_shutdown(self, signal: Signals) -> None:
        if self._draining is None:
            end_hard_after(self._seconds_max, self.loop, self)
            self._draining = asyncio.ensure_future(self._stop_in_steps(signal), loop=self.loop)
        else:
            super()._schedule_shutdown(signal)

    async def _stop_in_steps(self, signal: Signals) -> None:
        await self._drain()
        super()._schedule_shutdown(signal)


def run_app(app: App, drain: Drain, seconds_max: float) -> None:
    """Run on the current event loop until SIGTERM or SIGINT; does not return.

    From the signal on, the process takes at most `seconds_max`; then it ends hard.
    """
    worker = DrainingWorker(
        app,
        drain,
        seconds_max,
        loop=asyncio.get_event_loop(),
        loglevel="WARNING",
        override_logging=False,
        redirect_stdouts=False,
        quiet=True,
    )
    # It writes terminal codes into logs.
    worker.spinner = None
    worker.execute_from_commandline()
