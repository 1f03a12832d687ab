"""What our views have in common with Faust's, and where they differ."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, ClassVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from structlog.contextvars import clear_contextvars

from billing_stream.config.listener_settings import Address
from billing_stream.domain.model import Platform
from billing_stream.engine.watchdog import Watchdog
from billing_stream.faust_adapter.faust_app import App
from billing_stream.faust_adapter.faust_web import View, WebError, add_view
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.platforms import base
from billing_stream.web.checkouts import Checkouts
from billing_stream.web.command_requests import Commands
from billing_stream.web.connections import Connections
from billing_stream.web.envelope import ApiError, Code, WebCode, ids_of, not_ready, respond_error
from billing_stream.web.ingress import Ingress
from billing_stream.web.limits import ConcurrencyLimit, RateLimit, ShopConcurrencyLimit
from billing_stream.web.ops.cookies import CookiePolicy
from billing_stream.web.ops.dashboard import Dashboard
from billing_stream.web.ops.ended_sessions import EndedSessions
from billing_stream.web.owners import PartitionRouter
from billing_stream.web.peer_tokens import PeerCalls
from billing_stream.web.peers import Peers, outcome_unknown
from billing_stream.web.projection import Projection
from billing_stream.web.refusals import Credential, Refusals
from billing_stream.web.webhook_dead_letters import WebhookDeadLetters

logger = logging.getLogger(__name__)

_FOR_CREDENTIALS = (WebCode.UNAUTHORIZED, WebCode.FORBIDDEN)


@dataclass(frozen=True)
class Context:
    """What views work with."""

    owners: PartitionRouter
    peers: Peers
    peer_calls: PeerCalls
    commands: Commands
    checkouts: Checkouts
    platforms: Mapping[Platform, base.Platform]
    ingress: Ingress
    webhook_dead_letters: WebhookDeadLetters
    projection: Projection
    dashboard: Dashboard
    ended_sessions: EndedSessions
    cookies: CookiePolicy
    rate_limit: RateLimit
    webhook_limit: RateLimit
    login_limit: RateLimit
    refusals: Refusals
    gate: ConcurrencyLimit
    connections: Connections
    other_listeners: Mapping[Address, Connections]
    shops_in_work: ShopConcurrencyLimit
    watchdog: Watchdog
    metrics: WorkerMetrics
    client_secrets: tuple[str, ...]
    client_token_lifetime: timedelta | None
    internal_secrets: tuple[str, ...]
    max_record_bytes: int

    def now(self) -> datetime:
        """The time by which the lanes decide."""
        return self.watchdog.lanes.clock()


class ApiView(View):
    """A view that answers refusals in our envelope."""

    context: ClassVar[Context]
    # What its requests must show.
    credential: ClassVar[Credential] = Credential.CLIENT_TOKEN

    def note_refusal(self, request: web.Request, exc: WebError, credential: Credential) -> None:
        """Count a refusal, if it is one for what the request showed."""
        if isinstance(exc, ApiError) and exc.error_code in _FOR_CREDENTIALS:
            self.context.refusals.note(credential, route_of(request))

    async def on_request_error(self, request: Any, exc: WebError) -> Any:
        """The answer to a refusal, raised as `ApiError`."""
        self.note_refusal(request, exc, self.credential)
        return self.respond_error(request, exc)

    @staticmethod
    def respond_error(request: web.Request, exc: WebError) -> web.Response:
        """The refusal in our envelope."""
        if isinstance(exc, ApiError):
            return respond_error(request, exc)
        return respond_error(request, ApiError(WebCode.BAD_REQUEST, exc.detail))


def add_page(app: App, path: str, view: type[ApiView], context: Context) -> None:
    """Serve the view at the path, with and without a slash at the end."""
    for suffix in ("", "/"):
        bound = type(view.__name__, (view,), {"context": context})
        add_view(app, path + suffix, bound)


_CODES: dict[int, tuple[Code, str]] = {
    404: (WebCode.NOT_FOUND, "there is nothing at this path"),
    405: (WebCode.METHOD_NOT_ALLOWED, "this path has no such method"),
    413: (WebCode.BODY_TOO_LARGE, "the body is too large"),
}


@web.middleware
async def envelope_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Our envelope for what no view answers: unknown paths, wrong methods, our own faults."""
    # A connection that is kept has one context for all its requests.
    clear_contextvars()
    ids_of(request)
    response = await _answer(request, handler)
    level = logging.INFO if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.DEBUG
    if logger.isEnabledFor(level):
        route, status = route_of(request), response.status
        fields = {"route": route, "status": status}
        logger.log(level, "%s %s: %s", request.method, route, status, extra=fields)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        code, message = _CODES.get(
            error.status, (WebCode.BAD_REQUEST, "the request cannot be understood")
        )
        response = respond_error(request, ApiError(code, message))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except Exception:
        logger.exception("a request to %s failed", route_of(request))
        fault = ApiError(WebCode.INTERNAL_ERROR, "the fault is ours, and it is logged")
        return respond_error(request, fault)


def gate_middleware(gate: ConcurrencyLimit, seconds: float, ungated: frozenset[str]) -> Middleware:
    """Nothing is in work but what the gate let in, and each for so many seconds at most."""

    @web.middleware
    async def pass_gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.rstrip("/") in ungated:
            return await handler(request)
        try:
            with gate.enter():
                async with asyncio.timeout(seconds):
                    return await handler(request)
        except ApiError as error:
            return respond_error(request, error)
        except TimeoutError:
            why = f"no answer within {seconds:g} s"
            late = not_ready(why) if request.method == "GET" else outcome_unknown(why)
            return respond_error(request, late)

    return pass_gate


def route_of(request: web.Request) -> str:
    """The path as registered: what callers put into it is not for the log."""
    resource = request.match_info.route.resource
    return (resource.canonical.rstrip("/") or "/") if resource is not None else "an unknown path"
