"""The web part of a worker, put onto Faust's own web server."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from billing_stream.config.listener_settings import Address, Listener
from billing_stream.config.settings import Settings
from billing_stream.domain.model import Platform
from billing_stream.engine.watchdog import Watchdog
from billing_stream.faust_adapter.faust_app import App
from billing_stream.faust_adapter.faust_web import take_application
from billing_stream.kafka.client_options import client_options
from billing_stream.observability.metrics.platform_calls import InstrumentedPlatform
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.observability.metrics.worker_state import Lags
from billing_stream.observability.tracing.spans import Tracing
from billing_stream.platforms import base
from billing_stream.platforms.local import Local
from billing_stream.platforms.platform_factory import new_platforms
from billing_stream.records.topics import Topics
from billing_stream.web import billing, described, health, history, operators
from billing_stream.web.auth import shop_token_headers
from billing_stream.web.body_limit import BodyLimit, body_middleware
from billing_stream.web.checkout_page import CHECKOUT_PATH, CheckoutPage
from billing_stream.web.checkouts import Checkouts
from billing_stream.web.command_requests import COMMANDS_PATH, Commands
from billing_stream.web.connections import Connections
from billing_stream.web.ingress import Ingress, KafkaIngress
from billing_stream.web.internal import CarryOut, Queries
from billing_stream.web.limits import ConcurrencyLimit, RateLimit, ShopConcurrencyLimit
from billing_stream.web.listeners import listener_middleware
from billing_stream.web.measured import METRICS_PATH, Metrics, measuring_middleware
from billing_stream.web.ops import paths as ops
from billing_stream.web.ops.cookies import CookiePolicy
from billing_stream.web.ops.dashboard import Dashboard
from billing_stream.web.ops.ended_sessions import EndedSessions, Follower
from billing_stream.web.ops.figures import not_sampled
from billing_stream.web.owners import QUERIES_PATH, PartitionRouter
from billing_stream.web.peer_client import PeerClient
from billing_stream.web.peer_tokens import PeerCalls
from billing_stream.web.peers import Peers
from billing_stream.web.projection import Projection
from billing_stream.web.refusals import Refusals
from billing_stream.web.traced import tracing_middleware
from billing_stream.web.views import (
    ApiView,
    Context,
    add_page,
    envelope_middleware,
    gate_middleware,
)
from billing_stream.web.webhook_dead_letters import WebhookDeadLetters
from billing_stream.web.webhook_routes import WEBHOOKS_PATH, Webhooks

TOO_MANY_WEBHOOKS = "too many webhooks of this platform"
logger = logging.getLogger(__name__)

PAGES: tuple[tuple[str, type[ApiView]], ...] = (
    (billing.BILLING_PATH, billing.Billing),
    (billing.TRIALS_PATH, billing.Trials),
    (billing.PURCHASES_PATH, billing.Purchases),
    (billing.PURCHASE_PATH, billing.Purchase),
    (history.HISTORY_PATH, history.History),
    (WEBHOOKS_PATH, Webhooks),
    (health.HEALTH_PATH, health.Health),
    (health.READY_PATH, health.Ready),
    (METRICS_PATH, Metrics),
    (operators.ADJUSTMENTS_PATH, operators.Adjustments),
    (QUERIES_PATH, Queries),
    (COMMANDS_PATH, CarryOut),
    *described.PAGES,
    *ops.PAGES,
)
# Nobody's time is moved in production.
TEST_PAGES: tuple[tuple[str, type[ApiView]], ...] = ((operators.CLOCK_PATH, operators.Clock),)
# They must be answered whatever else there is to do.
UNGATED = frozenset({health.HEALTH_PATH, health.READY_PATH, METRICS_PATH})
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
) -> Context:
    """Add every page; whatever goes wrong, the answer has one shape.

    `platforms` and `ingress` are those of the settings, unless others are given. `ask_lags`
    gives the latest sample of how many records wait in Kafka.
    """
    if platforms is None:
        headers = partial(shop_token_headers, settings.internal_jwt_secrets[0])
        platforms = new_platforms(settings, headers)
    has_local = any(isinstance(platform, Local) for platform in platforms.values())
    platforms = {n: InstrumentedPlatform(n, each, metrics) for n, each in platforms.items()}
    refusals = Refusals(lambda *labels: metrics.credentials_refused.labels(*labels).inc())
    peers = Peers(app, PeerClient(settings, tracing), refusals, topics)
    owners = PartitionRouter(watchdog.lanes, peers, partitions=settings.partitions, tracing=tracing)
    checkouts = Checkouts(owners, platforms, settings.currency)
    options, own_ingress = client_options(settings), None
    listeners = _listeners(settings, metrics)
    if ingress is None:
        ingress = own_ingress = KafkaIngress(options, topics, settings.partitions, tracing)
    context = Context(
        owners=owners,
        peers=peers,
        peer_calls=PeerCalls(settings.internal_jwt_secrets, old=settings.old_peer_tokens),
        commands=Commands(owners, peers, checkouts, settings.request_deadline),
        checkouts=checkouts,
        platforms=platforms,
        ingress=ingress,
        webhook_dead_letters=WebhookDeadLetters(ingress, metrics),
        projection=Projection.of(settings),
        dashboard=Dashboard(settings, watchdog, peers, metrics, ask_lags),
        ended_sessions=EndedSessions(ingress, settings.partitions),
        cookies=CookiePolicy(settings.is_real, settings.ops_url or settings.public_url),
        rate_limit=RateLimit(settings.requests_per_minute),
        webhook_limit=RateLimit(settings.webhooks_per_minute, refusal=TOO_MANY_WEBHOOKS),
        login_limit=RateLimit(
            settings.failed_logins_per_minute, refusal="too many failed logins from this address"
        ),
        refusals=refusals,
        gate=ConcurrencyLimit(settings.requests_waiting_max),
        connections=listeners.pop(settings.address_of(Listener.INTERNAL)),
        other_listeners=listeners,
        shops_in_work=ShopConcurrencyLimit(settings.shop_requests_waiting_max),
        watchdog=watchdog,
        metrics=metrics,
        client_secrets=settings.client_jwt_secrets,
        client_token_lifetime=settings.client_token_max_lifetime,
        internal_secrets=settings.internal_jwt_secrets,
        max_record_bytes=settings.max_record_bytes,
    )
    for path, view in (*PAGES, *(TEST_PAGES if settings.policy.test_clock else ())):
        add_page(app, path, view, context)
    if has_local:
        add_page(app, CHECKOUT_PATH, CheckoutPage, context)
    application = _set_up_server(app, context, settings, tracing)
    if own_ingress is not None:
        follower = Follower(context.ended_sessions, options, topics, settings.partitions)
        application.cleanup_ctx.append(follower.watch)
    return context


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
    app: App, context: Context, settings: Settings, tracing: Tracing | None
) -> web.Application:
    # Faust listens where the other workers ask, as it tells the group that address.
    others = context.other_listeners
    runner = partial(context.connections.runner, others=others, **RUNNER_OPTIONS)
    application = take_application(app, runner)
    metrics, deadline = context.metrics, settings.request_deadline.total_seconds()
    bodies = BodyLimit(
        settings.bodies_waiting_max,
        settings.body_timeout.total_seconds(),
        lambda why: metrics.http_bodies_refused.labels(why).inc(),
    )
    application.middlewares.append(measuring_middleware(context.metrics))
    if tracing is not None:
        application.middlewares.append(tracing_middleware(tracing, UNGATED))
    application.middlewares.append(envelope_middleware)
    application.middlewares.append(listener_middleware)
    application.middlewares.append(body_middleware(bodies, UNGATED))
    application.middlewares.append(gate_middleware(context.gate, deadline, UNGATED))

    async def close(_: web.Application) -> None:
        context.refusals.close()
        await context.dashboard.close()
        await context.checkouts.close()
        await context.peers.close()
        await context.ingress.close()
        context.projection.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    application.cleanup_ctx.append(context.dashboard.recorder.watch)
    application.cleanup_ctx.append(context.peers.watch)
    application.on_cleanup.append(close)
    logging.getLogger("aiohttp.server").addFilter(hush_malformed)
    return application


def hush_malformed(record: logging.LogRecord) -> bool:
    """Keep what is no HTTP out of the log.

    aiohttp answers it with 400, but logs an error with the bytes: a line that was too long
    may be a token, and anyone could fill the log.
    """
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    logger.info("refused what is no HTTP: %s", type(error).__name__)
    return False
