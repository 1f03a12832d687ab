"""The connections of an HTTP server: their number, the time for headers, what they are for."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from itertools import chain
from typing import Any, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_protocol import RequestHandler

from billing_stream.config.listener_settings import Address, Listener
from billing_stream.web.envelope import ApiError, WebCode, fault, respond_error

logger = logging.getLogger(__name__)

# Longer than proxies keep an idle connection (nginx, ALB: 60 s): they close it, not the server,
# which could do so while a request is on its way.
KEEPALIVE_SECONDS = 75.0
# What is left of a body that was refused is read for so long, or the client would not see why.
LINGERING_SECONDS = 2.0


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
        """The answer to what is not HTTP, in our envelope: aiohttp's own repeats what was sent."""
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


def listener_middleware(served_on: Mapping[str, frozenset[Listener]]) -> Middleware:
    """Answer 404 where the path, by its first part, belongs to another listener."""

    @web.middleware
    async def require_listener(request: web.Request, handler: Handler) -> web.StreamResponse:
        first = request.path.strip("/").partition("/")[0]
        if cast(_Connection, request.protocol).serves.isdisjoint(served_on.get(first, ())):
            raise web.HTTPNotFound
        return await handler(request)

    return require_listener
