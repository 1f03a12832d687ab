"""The bodies of requests: read within bounds, and nothing in them that we do not know."""

import re
from typing import Annotated, TypeVar

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta, Struct

from billing_stream.domain.commands import Key, Text
from billing_stream.domain.model import Platform
from billing_stream.web.envelope import ApiError, WebCode

IDEMPOTENCY_KEY = "Idempotency-Key"
KEY_MAX = 255

ReturnUrl = Annotated[
    str,
    Meta(
        # No spaces, quotes or control characters: it is shown in pages and sent in headers.
        pattern=r"^https?://[^\s\x00-\x20\x7f\x22'<>\\^`{|}]+\Z",
        max_length=2048,
        description="Where the merchant goes after the payment",
    ),
]


class StartTrialBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/billing/trials`, which may be left out."""

    idempotency_key: Key | None = None


class BuyBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/billing/purchases`."""

    pack: Text
    platform: Platform
    return_url: ReturnUrl
    idempotency_key: Key | None = None


NO_CONTROLS = r"^[^\x00-\x1f\x7f]+\Z"
Body = TypeVar("Body")
# What stands in a changelog's key and in PostgreSQL, so no control characters.
_JSON = re.compile(r"\s*application/(json|[\w.-]+\+json)\s*(;.*)?", re.IGNORECASE | re.ASCII)
_KEY = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}")


async def read_body(request: web.Request) -> bytes:
    """The raw body.

    It was received before (`body_limit`). Raises HTTPRequestEntityTooLarge, and ApiError
    (BAD_REQUEST) when it breaks off.
    """
    try:
        return await request.read()
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
