"""Runs a worker process: checks, builds, starts Faust, stops gracefully."""

import asyncio
import gc
import importlib
import logging
import os
import resource
import socket
from functools import partial

import uvloop

from billing_stream.app import BillingApp, build, check_rights
from billing_stream.config.listener_settings import Address
from billing_stream.config.settings import Settings
from billing_stream.errors import SettingsError
from billing_stream.faust_adapter.process import EXTENSIONS as EXTENSIONS_OF_FAUST
from billing_stream.faust_adapter.process import run_app
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.lost_changelogs import require_no_lost_changelog
from billing_stream.kafka.old_rows_currency import with_old_currency
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_admin import check_before_start
from billing_stream.observability.logs import set_up_logging
from billing_stream.records.topics import Topics

logger = logging.getLogger(__name__)

# Without them Faust and aiokafka behave differently, and are far slower.
EXTENSIONS = (*EXTENSIONS_OF_FAUST, "aiokafka.record._crecords")

# Of Kafka, PostgreSQL, platforms, other workers and files.
DESCRIPTORS_BESIDES = 200

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


def _check_free(address: Address) -> None:
    host, port = address
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise SettingsError(
            f"port {port} of {host} cannot be listened on ({os.strerror(error.errno or 0)}): does "
            "another worker run here? Give each a BILLING_API_EXTERNAL_PORT of its own, and a "
            "BILLING_OPS_PORT and BILLING_INTERNAL_PORT where they are set"
        ) from None


def check_machine(settings: Settings) -> None:
    """Raise SettingsError when a port is taken, or the folder cannot be made."""
    for address in settings.addresses:
        _check_free(address)
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{settings.data_dir} cannot be made ({error.strerror}): BILLING_DATA_DIR must be a "
            "folder that this user can write"
        ) from None


def raise_descriptors(settings: Settings) -> None:
    """Allow this process the descriptors that its limits of connections need, where it may."""
    needed = settings.connections_max * len(settings.addresses) + DESCRIPTORS_BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        logger.warning(
            "up to %s descriptors are needed, and %s allowed: ulimit -n", needed, allowed
        )


def configure_gc() -> None:
    """Look for cycles seldom: rows are structs that cannot be part of one.

    At the default of 700 new objects the collector walks the tables over and over, which
    takes a tenth of the throughput.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


async def drain(billing: BillingApp) -> None:
    """Stop in steps: not ready, but serving; then finish what was accepted."""
    settings, context = billing.settings, billing.context
    ready = not context.watchdog.problems()
    context.gate.stopping = True
    if ready:
        logger.info("stopping: for %s not ready, but serving", settings.drain_delay)
        await asyncio.sleep(settings.drain_delay.total_seconds())
    # A request ends at its deadline with 504, which is written a little later.
    seconds = settings.request_deadline.total_seconds() + 1
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    left = await context.gate.close(seconds)
    if left:
        logger.warning("stopping with %s requests in flight", left)
    # Whose clients have given up: a platform's answer is kept all the same.
    await context.checkouts.settle(max(0.0, end - loop.time()))


async def _check_kafka(settings: Settings) -> Settings:
    """Return when all is as a worker needs it; the settings, with what the log stores of them."""
    deadline = StartDeadline.of(settings)
    await check_before_start(settings, deadline)
    topics = Topics(settings.app_id, settings.topic_prefix)
    await deadline.retry(
        "the ends of the changelogs",
        partial(require_no_lost_changelog, client_options(settings), topics),
    )
    await check_rights(settings, deadline)
    return await with_old_currency(settings, deadline, store=True)


def run_worker(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; does not return.

    Raises SettingsError, TopicsError, AuthorizationError or KafkaNotReady before it starts.
    """
    set_up_logging(settings)
    check_extensions()
    uvloop.install()
    settings = asyncio.run(_check_kafka(settings))
    check_machine(settings)
    raise_descriptors(settings)
    asyncio.set_event_loop(asyncio.new_event_loop())
    billing = build(settings)
    configure_gc()
    listened = settings.addresses.items()
    ports = ", ".join(f"{port} ({'/'.join(sorted(serves))})" for (_, port), serves in listened)
    logger.info("starting worker of %s on port %s", settings.app_id, ports)
    run_app(billing.faust, partial(drain, billing), stop_seconds(settings))
