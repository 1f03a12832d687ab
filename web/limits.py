"""What a worker lets in: limits of connections, bodies and requests, in total and per shop.

Webhooks are limited by platform: all that is signed counts, and nothing else. Logins are limited
by address: those that fail count.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from itertools import chain
from math import ceil
from time import monotonic
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from billing_stream.config.listener_settings import Address, Listener
from billing_stream.domain.outcomes import ErrorCode
from billing_stream.records.invalid_fields import Rule
from billing_stream.web.envelope import (
    RATE_LIMIT,
    RATE_LIMIT_POLICY,
    ApiError,
    WebCode,
    fault,
    invalid,
    not_ready,
    respond_error,
)

logger = logging.getLogger(__name__)

SHOPS_KEPT_MAX = 100_000
MINUTE = 60.0
# Longer than proxies keep an idle connection (nginx, ALB: 60 s): they close it, not the server,
# which could do so while a request is on its way.
KEEPALIVE_SECONDS = 75.0
# What is left of a body that was refused is read for so long, or the client would not see why.
LINGERING_SECONDS = 2.0


class RateLimit:
    """Limits the requests of a shop per minute, on this worker; all of them may come at once.

    One time per shop (the generic cell rate algorithm): until then its requests are paid for.
    `refusal` is the message of a refusal, `name` that of the limit in headers.
    """

    def __init__(
        self,
        per_minute: int,
        clock: Callable[[], float] = monotonic,
        refusal: str = "too many requests of this shop",
        name: str = "shop",
    ) -> None:
        self._price = MINUTE / per_minute
        self._name = f'"{name}"'
        self._policy = f"{self._name};q={per_minute};w={MINUTE:g}"
        self._clock = clock
        self._refusal = refusal
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def hit(self, shop: str) -> dict[str, str]:
        """Count a request; the headers that say how many may follow.

        Raises ApiError (TOO_MANY_REQUESTS) with them, and with the seconds to wait.
        """
        now = self._clock()
        until = max(self._paid_until.pop(shop, now), now) + self._price
        wait = until - now - MINUTE
        if wait > 1e-9:
            until -= self._price
        self._paid_until[shop] = until
        if len(self._paid_until) > SHOPS_KEPT_MAX:
            self._paid_until.popitem(last=False)
        self._require(wait)
        return self._headers(until - now)

    def require_room(self, shop: str) -> None:
        """Raise as `hit` would, and count nothing."""
        now = self._clock()
        self._require(max(self._paid_until.get(shop, now), now) + self._price - now - MINUTE)

    def _require(self, wait: float) -> None:
        if wait > 1e-9:
            raise ApiError(
                ErrorCode.TOO_MANY_REQUESTS,
                self._refusal,
                retry_after=max(1, ceil(wait)),
                headers=self._headers(MINUTE),
            )

    def _headers(self, paid: float) -> dict[str, str]:
        left = int((MINUTE - paid) / self._price + 1e-9)
        return {
            RATE_LIMIT_POLICY: self._policy,
            RATE_LIMIT: f"{self._name};r={left};t={ceil(paid)}",
        }


class ConcurrencyLimit:
    """Counts the requests in flight.

    `stopping` makes `/ready` fail, so that load balancers go elsewhere while this worker still
    serves; then it closes, and requests in flight are finished.
    """

    def __init__(self, most: int) -> None:
        self.stopping = False
        self._most = most
        self._in_work = 0
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be in flight. Raises ApiError (NOT_READY) when there is no place, or never will be."""
        if self._closed:
            raise not_ready("this worker is stopping")
        if self._in_work >= self._most:
            raise not_ready("too many requests are in flight")
        self._in_work += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._in_work -= 1
            if not self._in_work:
                self._empty.set()

    async def close(self, seconds: float) -> int:
        """Let no request in, and wait, up to `seconds`, until all are done; how many are not."""
        self._closed = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        return self._in_work


class BodyLimit:
    """At most `most` bodies are received at once, each within `seconds` in all.

    They are received before a request takes a place: a slow one does not delay others.

    For one more, the one that takes longest is refused: a body that comes at once always gets in.
    `refused` is called with `slow` or `limit` for each that is.
    """

    def __init__(self, most: int, seconds: float, refused: Callable[[str], object] = str) -> None:
        self._most = most
        self._seconds = seconds
        self._refused = refused
        # Of each body its deadline, in the order in which they began.
        self._receiving: dict[asyncio.Timeout, None] = {}

    async def receive(self, request: web.Request) -> None:
        """Have the whole body, which `read_body` then gives at once.

        Raises ApiError: BODY_TOO_LARGE, BAD_REQUEST when it comes too slowly or breaks off,
        NOT_READY when there are too many.
        """
        if (request.content_length or 0) > request.client_max_size:
            raise _too_large(request.client_max_size)
        if request.content.is_eof():
            await read_body(request)
            return
        deadline = asyncio.timeout(self._seconds)
        try:
            async with deadline:
                self._begin(deadline)
                await read_body(request)
        except TimeoutError:
            slow = deadline in self._receiving
            self._refused("slow" if slow else "limit")
            if slow:
                raise ApiError(WebCode.BAD_REQUEST, "the body did not come in time") from None
            raise not_ready("this worker receives too many request bodies") from None
        finally:
            self._receiving.pop(deadline, None)

    def _begin(self, deadline: asyncio.Timeout) -> None:
        self._receiving[deadline] = None
        if len(self._receiving) > self._most:
            oldest = next(iter(self._receiving))
            del self._receiving[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())


async def read_body(request: web.Request) -> bytes:
    """The raw body.

    It was received before (`BodyLimit`). Raises ApiError: BODY_TOO_LARGE, or BAD_REQUEST when it
    breaks off.
    """
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(request.client_max_size) from None
    except web.RequestPayloadError:
        raise ApiError(WebCode.BAD_REQUEST, "the body is not as it was announced") from None


def _too_large(most: int) -> ApiError:
    why = f"the body must have at most {most} bytes"
    return invalid("", why, Rule.LENGTH, WebCode.BODY_TOO_LARGE)


class Connections:
    """The open connections of a server.

    `closed_early` is called with `limit` or `headers` for each that the server closes. For one
    more connection than `most`, the one that waits longest for its first request is closed, then
    an idle one; where all are at work, the new one is. Nothing is closed at work.
    """

    def __init__(
        self,
        most: int,
        header_seconds: float,
        closed_early: Callable[[str], object] = str,
        serves: Iterable[Listener] = Listener,
    ) -> None:
        self.header_seconds = header_seconds
        self.serves = frozenset(serves)
        self._most = most
        self._closed_early = closed_early
        # In the order in which they came.
        self._open: dict[_Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def runner(
        self,
        application: web.Application,
        others: "Mapping[Address, Connections] | None" = None,
        **options: Any,
    ) -> web.AppRunner:
        """A runner of a server with these bounds. `options` as of `aiohttp.web.AppRunner`.

        The application is also served at the addresses `others`, each with bounds of its own.
        """
        bounded = {"keepalive_timeout": KEEPALIVE_SECONDS, "lingering_time": LINGERING_SECONDS}
        return _Runner(self, others or {}, application, **{**bounded, **options})

    def opened(self, connection: "_Connection") -> None:
        """Count a connection, and close one where there are too many."""
        self._open[connection] = None
        if len(self._open) > self._most:
            self.close(self._least_needed(connection), "limit")

    def closed(self, connection: "_Connection") -> None:
        """The connection is gone."""
        self._open.pop(connection, None)

    def close(self, connection: "_Connection", why: str) -> None:
        """Close a connection that has no request."""
        self.closed(connection)
        self._closed_early(why)
        logger.debug("closed a connection: %s", why)
        connection.force_close()

    def _least_needed(self, new: "_Connection") -> "_Connection":
        waiting = [one for one in self._open if one.waits and one is not new]
        unused = (one for one in waiting if not one.used)
        return next(chain(unused, waiting), new)


class _Connection(RequestHandler):
    """A connection that is closed when the headers of a request take too long."""

    __slots__ = ("_bounds", "_late")

    def __init__(self, bounds: Connections, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._bounds = bounds
        self._late: asyncio.TimerHandle | None = None

    @property
    def serves(self) -> frozenset[Listener]:
        """The listeners of the address that was asked."""
        return self._bounds.serves

    @property
    def waits(self) -> bool:
        """Whether there is no request, or not all of its headers."""
        return self._current_request is None and not self._messages

    @property
    def used(self) -> bool:
        """Whether there was a request."""
        return self._request_count > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for headers."""
        super().connection_made(transport)
        self._expect_headers()
        self._bounds.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wait no more."""
        self._bounds.closed(self)
        self._expect_none()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to input that is not HTTP, in the usual envelope: aiohttp's own repeats it."""
        super().handle_error(request, status, exc, message)
        is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        malformed = ApiError(WebCode.BAD_REQUEST, "the request is not valid HTTP")
        response = respond_error(request, fault() if is_ours else malformed)
        response.force_close()
        return response

    def data_received(self, data: bytes) -> None:
        """Begin to wait with the first byte of a request, until all its headers are there."""
        super().data_received(data)
        if not self.waits:
            self._expect_none()
        elif self._late is None:
            self._expect_headers()

    def _expect_headers(self) -> None:
        seconds = self._bounds.header_seconds
        self._late = self._loop.call_later(seconds, self._bounds.close, self, "headers")

    def _expect_none(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Server(web.Server):
    """A server of such connections, as aiohttp made one of its own."""

    def __init__(self, bounds: Connections, made: web.Server) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
        self._bounds = bounds

    def __call__(self) -> RequestHandler:
        return _Connection(self._bounds, self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    __slots__ = ("_bounds", "_others", "_runners")

    def __init__(
        self,
        bounds: Connections,
        others: Mapping[Address, Connections],
        application: web.Application,
        **options: Any,
    ) -> None:
        super().__init__(application, **options)
        self._bounds = bounds
        self._others = others
        self._runners: list[web.ServerRunner] = []

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        for (host, port), bounds in self._others.items():
            server = _Server(bounds, made)
            runner = web.ServerRunner(server, shutdown_timeout=self._shutdown_timeout)
            self._runners.append(runner)
            await runner.setup()
            await web.TCPSite(runner, host, port).start()
        return _Server(self._bounds, made)

    async def shutdown(self) -> None:
        """Close the other listeners first: they serve the application as it is."""
        while self._runners:
            await self._runners.pop().cleanup()
        await super().shutdown()


def served_here(request: web.Request) -> frozenset[Listener]:
    """The listeners of the address that this request came to."""
    return cast(_Connection, request.protocol).serves
