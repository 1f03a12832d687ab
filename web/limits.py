"""What a worker lets in: so many requests of one shop, so many at once, none while it stops.

Webhooks are limited by platform: all that is signed counts, and nothing else. Logins are limited
by address: those that fail count.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import ceil
from time import monotonic

from aiohttp import web

from billing_stream.domain.outcomes import ErrorCode
from billing_stream.web.envelope import ApiError, WebCode, not_ready

SHOPS_KEPT_MAX = 100_000
MINUTE = 60.0


class RateLimit:
    """So many requests of a shop per minute, on this worker; all of them at once if need be.

    One time per shop (the generic cell rate algorithm): until then its requests are paid for.
    `refusal` is the message of a refusal.
    """

    def __init__(
        self,
        per_minute: int,
        clock: Callable[[], float] = monotonic,
        refusal: str = "too many requests of this shop",
    ) -> None:
        self._price = MINUTE / per_minute
        self._clock = clock
        self._refusal = refusal
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def hit(self, shop: str) -> None:
        """Count a request. Raises ApiError (TOO_MANY_REQUESTS) with the seconds to wait."""
        now = self._clock()
        until = max(self._paid_until.pop(shop, now), now) + self._price
        wait = until - now - MINUTE
        if wait > 1e-9:
            until -= self._price
        self._paid_until[shop] = until
        if len(self._paid_until) > SHOPS_KEPT_MAX:
            self._paid_until.popitem(last=False)
        self._require(wait)

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
            )


class ShopConcurrencyLimit:
    """So many commands of one shop at once: a shop alone must not fill a worker."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_work: Counter[str] = Counter()

    @contextmanager
    def enter(self, domain: str) -> Iterator[None]:
        """Be in work. Raises ApiError (TOO_MANY_REQUESTS)."""
        if self._in_work[domain] >= self._most:
            raise ApiError(
                ErrorCode.TOO_MANY_REQUESTS,
                "too many requests of this shop are in work",
                retry_after=1,
            )
        self._in_work[domain] += 1
        try:
            yield
        finally:
            self._in_work[domain] -= 1
            if not self._in_work[domain]:
                del self._in_work[domain]


class ConcurrencyLimit:
    """Counts the requests in work.

    `stopping` is told by `/ready`, so that load balancers go elsewhere while this worker still
    serves; then it closes, and what is in work is finished.
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
        """Be in work. Raises ApiError (NOT_READY) when there is no place, or never will be."""
        if self._closed:
            raise not_ready("this worker is stopping")
        if self._in_work >= self._most:
            raise not_ready("too many requests are in work")
        self._in_work += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._in_work -= 1
            if not self._in_work:
                self._empty.set()

    async def close(self, seconds: float) -> int:
        """Let nobody in, and wait for so long until all are out; how many are not."""
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
            raise _too_large()
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
        raise _too_large() from None
    except web.RequestPayloadError:
        raise ApiError(WebCode.BAD_REQUEST, "the body is not as it was announced") from None


def _too_large() -> ApiError:
    return ApiError(WebCode.BODY_TOO_LARGE, "the body is too large")
