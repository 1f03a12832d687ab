"""Runs a worker process: checks, builds, starts Faust, stops gracefully."""

import asyncio
import gc
import importlib
import logging
import os
import socket
from signal import Signals
from typing import Any

import faust
import uvloop

from billing_stream.app import BillingApp, build, check_rights
from billing_stream.engine.unfinished import end_hard_after
from billing_stream.errors import SettingsError
from billing_stream.kafka_start import StartDeadline
from billing_stream.logs import set_up_logging
from billing_stream.settings import Settings
from billing_stream.topic_admin import check_before_start

logger = logging.getLogger(__name__)

# Without them Faust and aiokafka behave differently, and are far slower.
EXTENSIONS = (
    "faust._cython.streams",
    "faust._cython.windows",
    "aiokafka.record._crecords",
)

# To leave the group and close what is open, beyond the time that requests may take.
STOP_SECONDS_MAX = 5.0


def stop_seconds(settings: Settings) -> float:
    """How long a worker takes at most from SIGTERM to its end; then it ends hard."""
    serving = settings.drain_delay + settings.request_deadline
    return serving.total_seconds() + STOP_SECONDS_MAX


def check_extensions() -> None:
    """Raise SettingsError when the compiled parts of Faust or aiokafka are missing."""
    for name in EXTENSIONS:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise SettingsError(
                f"the compiled module {name} is missing: install wheels, not sources"
            ) from error


def check_machine(settings: Settings) -> None:
    """Raise SettingsError when the port is taken, or the folder cannot be made."""
    host, port = settings.api_bind, settings.api_external_port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise SettingsError(
            f"port {port} of {host} cannot be listened on ({os.strerror(error.errno or 0)}): does "
            "another worker run here? Give each a BILLING_API_EXTERNAL_PORT of its own"
        ) from None
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{settings.data_dir} cannot be made ({error.strerror}): BILLING_DATA_DIR must be a "
            "folder that this user can write"
        ) from None


def tame_garbage_collection() -> None:
    """Look for cycles seldom: rows are structs that cannot be part of one.

    At the default of 700 new objects the collector walks the tables over and over, which
    takes a tenth of the throughput.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


class DrainingWorker(faust.Worker):
    """Stops in three steps: says that it is not ready, finishes what it took, then ends.

    A second signal ends it at once.
    """

    def __init__(self, billing: BillingApp, **options: Any) -> None:
        super().__init__(billing.faust, **options)
        self._billing = billing
        self._draining: asyncio.Future[None] | None = None

    def _schedule_shutdown(self, signal: Signals) -> None:
        if self._draining is None:
            end_hard_after(stop_seconds(self._billing.settings), self.loop, self)
            self._draining = asyncio.ensure_future(self._drain(signal), loop=self.loop)
        else:
            super()._schedule_shutdown(signal)

    async def _drain(self, signal: Signals) -> None:
        settings, context = self._billing.settings, self._billing.context
        ready = not context.watchdog.problems()
        context.gate.stopping = True
        if ready:
            logger.info("stopping: for %s not ready, but serving", settings.drain_delay)
            await asyncio.sleep(settings.drain_delay.total_seconds())
        # A request ends at its deadline with 504, which is written a little later.
        seconds = settings.request_deadline.total_seconds() + 1
        end = self.loop.time() + seconds
        left = await context.gate.close(seconds)
        if left:
            logger.warning("stopping with %s requests in work", left)
        # Whose clients have given up: a platform's answer is kept all the same.
        await context.checkouts.settle(max(0.0, end - self.loop.time()))
        super()._schedule_shutdown(signal)


async def _check_kafka(settings: Settings) -> None:
    deadline = StartDeadline.of(settings)
    await check_before_start(settings, deadline)
    await check_rights(settings, deadline)


def run_worker(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; does not return.

    Raises SettingsError, TopicsError, NotAllowed or KafkaNotReady before anything is started.
    """
    set_up_logging(settings)
    check_extensions()
    uvloop.install()
    asyncio.run(_check_kafka(settings))
    check_machine(settings)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    billing = build(settings)
    tame_garbage_collection()
    worker = DrainingWorker(
        billing,
        loop=loop,
        loglevel="WARNING",
        override_logging=False,
        redirect_stdouts=False,
        quiet=True,
    )
    # It writes terminal codes into logs.
    worker.spinner = None
    logger.info("starting worker of %s on port %s", settings.app_id, settings.api_external_port)
    worker.execute_from_commandline()
