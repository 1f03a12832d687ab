"""Bodies are received before a request takes a place: a slow one does not delay others."""

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from billing_stream.web.bodies import read_body
from billing_stream.web.envelope import ApiError, WebCode, not_ready, respond_error


class BodyLimit:
    """At most `most` bodies are received at once, each within `seconds` in all.

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

        Raises HTTPRequestEntityTooLarge, and ApiError: BAD_REQUEST when it comes too slowly or
        breaks off, NOT_READY when there are too many.
        """
        length = request.content_length or 0
        if length > request.client_max_size:
            raise web.HTTPRequestEntityTooLarge(request.client_max_size, length)
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


def body_middleware(limit: BodyLimit, without: frozenset[str]) -> Middleware:
    """Receive the body of each request to a page; `without` are paths that read none."""

    @web.middleware
    async def receive_body(request: web.Request, handler: Handler) -> web.StreamResponse:
        found = request.match_info.http_exception is None
        if found and request.body_exists and request.path.rstrip("/") not in without:
            try:
                await limit.receive(request)
            except ApiError as error:
                return respond_error(request, error)
        return await handler(request)

    return receive_body
