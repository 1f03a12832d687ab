"""The bodies of requests: read within bounds, and nothing in them that we do not know."""

import asyncio
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec
from aiohttp import hdrs, web

from billing_stream.web.envelope import ApiError, WebCode, not_ready

IDEMPOTENCY_KEY = "Idempotency-Key"
KEY_MAX = 255

NO_CONTROLS = r"^[^\x00-\x1f\x7f]+\Z"
Body = TypeVar("Body")
# What stands in a changelog's key and in PostgreSQL, so no control characters.
_JSON = re.compile(r"\s*application/(json|[\w.-]+\+json)\s*(;.*)?", re.IGNORECASE | re.ASCII)
_KEY = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}")


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


async def parse_body(request: web.Request, kind: type[Body]) -> Body:
    """The body as JSON; without one, as if it were `{}`.

    Raises ApiError (VALIDATION_ERROR), naming what is wrong, or UNSUPPORTED_MEDIA_TYPE when the
    body is declared as another kind than JSON. Where nothing is declared, it is taken as JSON.
    """
    raw = await read_body(request)
    declared = request.headers.get(hdrs.CONTENT_TYPE)
    if raw and declared is not None and _JSON.fullmatch(declared) is None:
        raise ApiError(WebCode.UNSUPPORTED_MEDIA_TYPE, "send the body as application/json")
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise ApiError(WebCode.VALIDATION_ERROR, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError(WebCode.VALIDATION_ERROR, "the body is not JSON") from None


def key_of(request: web.Request, in_body: str | None) -> str | None:
    """The idempotency key, from the header or the body, or None.

    Raises ApiError (VALIDATION_ERROR) when it is malformed, or the two are not the same.
    """
    in_header = request.headers.get(IDEMPOTENCY_KEY)
    if in_header is not None and in_body is not None and in_header != in_body:
        raise _bad_key("the header and the body have different idempotency keys")
    key = in_header if in_header is not None else in_body
    if key is not None and _KEY.fullmatch(key) is None:
        raise _bad_key(f"an idempotency key has 1 to {KEY_MAX} characters, none of them controls")
    return key


def _bad_key(message: str) -> ApiError:
    return ApiError(WebCode.VALIDATION_ERROR, message, {"field": "idempotency_key"})


def _too_large() -> ApiError:
    return ApiError(WebCode.BODY_TOO_LARGE, "the body is too large")


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
