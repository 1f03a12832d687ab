"""The web part of a worker, put onto Faust's own web server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from billing_stream.config.listener_settings import Address, Listener
from billing_stream.config.settings import Settings
from billing_stream.domain.model import Platform
from billing_stream.engine.watchdog import Watchdog
from billing_stream.faust_adapter.faust_app import App
from billing_stream.faust_adapter.faust_web import Handler, add_view, take_application
from billing_stream.kafka.client_options import client_options
from billing_stream.observability.metrics.platform_calls import InstrumentedPlatform
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.observability.metrics.worker_state import Lags
from billing_stream.observability.tracing.spans import Tracing
from billing_stream.ops.dead_letters.letter_follower import LetterFollower
from billing_stream.platforms import base
from billing_stream.platforms.local import Local
from billing_stream.platforms.platform_factory import new_platforms
from billing_stream.platforms.sellable import sellable_packs
from billing_stream.records.topics import Topics
from billing_stream.web import checkout_page, described, internal, openapi, operators
from billing_stream.web.auth import shop_token_headers
from billing_stream.web.commands import Checkouts, Commands, ShopConcurrencyLimit
from billing_stream.web.context import Context
from billing_stream.web.envelope import envelope_middleware
from billing_stream.web.ingress import Ingress, KafkaIngress
from billing_stream.web.limits import (
    BodyLimit,
    ConcurrencyLimit,
    Connections,
    RateLimit,
)
from billing_stream.web.measured import get_metrics, measuring_middleware, tracing_middleware
from billing_stream.web.operation import Operation, listener_middleware
from billing_stream.web.ops import paths as ops
from billing_stream.web.ops.cookies import CookiePolicy
from billing_stream.web.ops.dashboard import Dashboard
from billing_stream.web.ops.ended_sessions import EndedSessions, Follower
from billing_stream.web.ops.figures import not_sampled
from billing_stream.web.owners import PartitionRouter
from billing_stream.web.peer_client import PeerClient
from billing_stream.web.peer_tokens import PeerCalls
from billing_stream.web.peers import Peers
from billing_stream.web.projection import Projection
from billing_stream.web.refusals import Refusals
from billing_stream.web.webhook_dead_letters import WebhookDeadLetters

TOO_MANY_WEBHOOKS = "too many webhooks of this platform"
TOO_MANY_LOGINS = "too many failed logins from this address"
logger = logging.getLogger(__name__)

OPERATIONS: tuple[Operation, ...] = (
    *(one for one in openapi.OPERATIONS if one not in operators.TEST_OPERATIONS),
    *internal.OPERATIONS,
    get_metrics,
    *described.OPERATIONS,
    *ops.OPERATIONS,
)
# Unpacked before anything is verified, a body of a megabyte could be one of gigabytes. And who
# still has no whole answer at the end has been waited for: by the gate, until its deadline.
RUNNER_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {"access_log": None, "auto_decompress": False, "shutdown_timeout": 1.0}
)


def application_options(settings: Settings) -> dict[str, Any]:
    """Options with which Faust is to make the aiohttp application."""
    return {"client_max_size": settings.max_body_bytes}


def register(
    app: App,
    watchdog: Watchdog,
    topics: Topics,
    settings: Settings,
    *,
    metrics: WorkerMetrics,
    platforms: Mapping[Platform, base.Platform] | None = None,
    ingress: Ingress | None = None,
    tracing: Tracing | None = None,
    ask_lags: Callable[[], Lags] = not_sampled,
    letters: LetterFollower | None = None,
) -> Context:
    """Serve every operation; whatever goes wrong, the answer has one shape.

    `platforms`, `ingress` and `letters` are those of the settings, unless others are given.
    `ask_lags` gives the latest sample of how many records wait in Kafka.
    """
    if platforms is None:
        headers = partial(shop_token_headers, settings.internal_jwt_secrets[0])
        platforms = new_platforms(settings, headers)
    has_local = any(isinstance(platform, Local) for platform in platforms.values())
    platforms = {n: InstrumentedPlatform(n, each, metrics) for n, each in platforms.items()}
    refusals = Refusals(lambda *labels: metrics.credentials_refused.labels(*labels).inc())
    peers = Peers(app, PeerClient(settings, tracing), refusals, topics)
    owners = PartitionRouter(watchdog.lanes, peers, partitions=settings.partitions, tracing=tracing)
    in_flight = ShopConcurrencyLimit(settings.shop_requests_waiting_max)
    checkouts = Checkouts(owners, platforms, settings.packs)
    options, own_ingress = client_options(settings), None
    listeners = _listeners(settings, metrics)
    if ingress is None:
        ingress = own_ingress = KafkaIngress(options, topics, settings.partitions, tracing)
    context = Context(
        owners=owners,
        peers=peers,
        peer_calls=PeerCalls(settings.internal_jwt_secrets, old=settings.old_peer_tokens),
        commands=Commands(owners, peers, checkouts, in_flight, settings.request_deadline),
        checkouts=checkouts,
        platforms=platforms,
        ingress=ingress,
        webhook_dead_letters=WebhookDeadLetters(ingress, metrics),
        projection=Projection.of(settings),
        dashboard=Dashboard(settings, watchdog, peers, metrics, ask_lags, letters),
        ended_sessions=EndedSessions(ingress, settings.partitions),
        cookies=CookiePolicy(settings.is_real, settings.ops_url or settings.public_url),
        rate_limit=RateLimit(settings.requests_per_minute),
        webhook_limit=_webhook_limit(settings.webhooks_per_minute),
        login_limit=RateLimit(settings.failed_logins_per_minute, refusal=TOO_MANY_LOGINS),
        refusals=refusals,
        gate=ConcurrencyLimit(settings.requests_waiting_max),
        bodies=_bodies(settings, metrics),
        request_seconds=settings.request_deadline.total_seconds(),
        connections=listeners.pop(settings.address_of(Listener.INTERNAL)),
        other_listeners=listeners,
        watchdog=watchdog,
        metrics=metrics,
        client_secrets=settings.client_jwt_secrets,
        client_token_lifetime=settings.client_token_max_lifetime,
        internal_secrets=settings.internal_jwt_secrets,
        max_record_bytes=settings.max_record_bytes,
        policy=settings.policy,
        sellable=partial(sellable_packs, settings),
    )
    operations = [*OPERATIONS, *(operators.TEST_OPERATIONS if settings.policy.test_clock else ())]
    operations += checkout_page.OPERATIONS if has_local else ()
    application = _set_up_server(app, context, operations, settings, tracing)
    if own_ingress is not None:
        follower = Follower(context.ended_sessions, options, topics, settings.partitions)
        application.cleanup_ctx.append(_meanwhile("ended-sessions", follower.watch))
    return context


def _webhook_limit(per_minute: int) -> RateLimit:
    return RateLimit(per_minute, refusal=TOO_MANY_WEBHOOKS, name="platform")


def _bodies(settings: Settings, metrics: WorkerMetrics) -> BodyLimit:
    return BodyLimit(
        settings.bodies_waiting_max,
        settings.body_timeout.total_seconds(),
        lambda why: metrics.http_bodies_refused.labels(why).inc(),
    )


def _listeners(settings: Settings, metrics: WorkerMetrics) -> dict[Address, Connections]:
    found = {
        address: Connections(
            settings.connections_max,
            settings.header_timeout.total_seconds(),
            lambda why: metrics.http_connections_closed.labels(why).inc(),
            serves,
        )
        for address, serves in settings.addresses.items()
    }
    every = tuple(found.values())
    metrics.http_connections.set_function(lambda: sum(map(len, every)))
    return found


def _set_up_server(
    app: App,
    context: Context,
    operations: Sequence[Operation],
    settings: Settings,
    tracing: Tracing | None,
) -> web.Application:
    # Faust listens where the other workers ask, as it tells the group that address.
    others = context.other_listeners
    runner = partial(context.connections.runner, others=others, **RUNNER_OPTIONS)
    application = take_application(app, runner)
    _route(app, context, operations)
    application.middlewares.append(measuring_middleware(context.metrics))
    if tracing is not None:
        unlimited = frozenset(one.path for one in operations if not one.limited)
        application.middlewares.append(tracing_middleware(tracing, unlimited))
    application.middlewares.append(envelope_middleware)
    application.middlewares.append(listener_middleware(_served_on(operations)))

    async def close(_: web.Application) -> None:
        context.refusals.close()
        await context.dashboard.close()
        await context.checkouts.close()
        await context.peers.close()
        await context.ingress.close()
        context.projection.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    application.cleanup_ctx.append(_meanwhile("ops-recorder", context.dashboard.recorder.watch))
    application.cleanup_ctx.append(_meanwhile("peers", context.peers.watch))
    application.on_cleanup.append(close)
    logging.getLogger("aiohttp.server").addFilter(hush_malformed)
    return application


def _meanwhile(
    name: str, work: Callable[[], Coroutine[Any, Any, None]]
) -> Callable[[web.Application], AsyncIterator[None]]:
    """A task for the lifetime of the application, as aiohttp takes it."""

    async def live(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(work(), name=name)
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return live


def _route(app: App, context: Context, operations: Sequence[Operation]) -> None:
    """Serve the operations, and nothing else: with and without a slash at the end."""
    by_path: dict[str, dict[str, Handler]] = {}
    for one in operations:
        handlers = by_path.setdefault(one.path, {})
        handlers[one.method] = partial(one.serve, context)
        if one.method == hdrs.METH_GET:
            handlers[hdrs.METH_HEAD] = handlers[hdrs.METH_GET]
    for path, handlers in by_path.items():
        for written in {path, f"{path.rstrip('/')}/"}:
            add_view(app, written, handlers)


def _served_on(operations: Sequence[Operation]) -> dict[str, frozenset[Listener]]:
    """The listeners of each path, by its first part. Raises ValueError where they differ."""
    found: dict[str, frozenset[Listener]] = {}
    for one in operations:
        first = one.path.split("/")[1]
        if found.setdefault(first, one.listeners) != one.listeners:
            raise ValueError(f"/{first} is on one listener: {one.path}")
    return found


def hush_malformed(record: logging.LogRecord) -> bool:
    """Keep input that is not HTTP out of the log.

    aiohttp answers it with 400, but logs an error with the bytes: a line that was too long
    may be a token, and anyone could fill the log.
    """
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    logger.info("refused input that is not HTTP: %s", type(error).__name__)
    return False
