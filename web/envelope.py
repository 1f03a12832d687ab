"""The one shape of every answer (`ApiResponse`), and the HTTP status of every error code."""

import logging
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import UNSET, Struct, UnsetType
from multidict import CIMultiDict
from structlog.contextvars import bind_contextvars, clear_contextvars

from billing_stream.domain.model import Instant
from billing_stream.domain.outcomes import ErrorCode
from billing_stream.plain_text import shown
from billing_stream.records.invalid_fields import InvalidField, Rule
from billing_stream.web.refusals import Credential

logger = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"
CORRELATION_ID = "X-Correlation-ID"
REPLAYED = "Idempotent-Replayed"
LOCATION = "Location"
# As in draft-ietf-httpapi-ratelimit-headers.
RATE_LIMIT = "RateLimit"
RATE_LIMIT_POLICY = "RateLimit-Policy"
RETRY_AFTER_SECONDS = 1

# What a caller may choose is written to headers, logs and events: short, and nothing odd.
SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=@|~-]{1,128}")
HEADERS: Mapping[str, str] = MappingProxyType(
    {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "billing-stream"}
)


# Of what is the same for all, and asked for again with its ETag.
FILE_HEADERS: Mapping[str, str] = MappingProxyType({**HEADERS, "Cache-Control": "no-cache"})


class WebCode(StrEnum):
    """Why the web refuses; the refusals of the rules are `domain.outcomes.ErrorCode`."""

    UNAUTHORIZED = "UNAUTHORIZED"
    FORBIDDEN = "FORBIDDEN"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    NOT_READY = "NOT_READY"
    BAD_REQUEST = "BAD_REQUEST"
    UNKNOWN_PLATFORM = "UNKNOWN_PLATFORM"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    INTERNAL_ERROR = "INTERNAL_ERROR"


Code = WebCode | ErrorCode

STATUS: Mapping[Code, HTTPStatus] = MappingProxyType(
    {
        ErrorCode.MERCHANT_NOT_FOUND: HTTPStatus.NOT_FOUND,
        ErrorCode.PURCHASE_NOT_FOUND: HTTPStatus.NOT_FOUND,
        ErrorCode.TRIAL_ALREADY_USED: HTTPStatus.CONFLICT,
        ErrorCode.IDEMPOTENCY_KEY_REUSED: HTTPStatus.CONFLICT,
        ErrorCode.CHARGE_MISMATCH: HTTPStatus.CONFLICT,
        ErrorCode.INSUFFICIENT_CREDITS: HTTPStatus.CONFLICT,
        ErrorCode.TRIAL_NOT_EXTENDABLE: HTTPStatus.CONFLICT,
        ErrorCode.MERCHANT_UNINSTALLED: HTTPStatus.CONFLICT,
        ErrorCode.INVALID_TRIAL_END: HTTPStatus.UNPROCESSABLE_ENTITY,
        ErrorCode.INVALID_SHOP: HTTPStatus.UNPROCESSABLE_ENTITY,
        ErrorCode.CLOCK_REFUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
        ErrorCode.INVALID_PACK: HTTPStatus.UNPROCESSABLE_ENTITY,
        ErrorCode.CHECKOUT_REFUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
        ErrorCode.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
        ErrorCode.TOO_MANY_OPEN_PURCHASES: HTTPStatus.TOO_MANY_REQUESTS,
        WebCode.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
        WebCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
        WebCode.VALIDATION_ERROR: HTTPStatus.UNPROCESSABLE_ENTITY,
        WebCode.NOT_READY: HTTPStatus.SERVICE_UNAVAILABLE,
        ErrorCode.PLATFORM_ERROR: HTTPStatus.BAD_GATEWAY,
        WebCode.BAD_REQUEST: HTTPStatus.BAD_REQUEST,
        WebCode.UNKNOWN_PLATFORM: HTTPStatus.UNPROCESSABLE_ENTITY,
        WebCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
        WebCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
        WebCode.BODY_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        WebCode.UNSUPPORTED_MEDIA_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        WebCode.OUTCOME_UNKNOWN: HTTPStatus.GATEWAY_TIMEOUT,
        WebCode.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    }
)

# What a client is told with every answer of that code.
CODE_HEADERS: Mapping[Code, Mapping[str, str]] = MappingProxyType(
    {
        WebCode.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
        WebCode.NOT_READY: {"Retry-After": str(RETRY_AFTER_SECONDS)},
        ErrorCode.TOO_MANY_REQUESTS: {"Retry-After": "3600"},
        ErrorCode.TOO_MANY_OPEN_PURCHASES: {"Retry-After": "3600"},
    }
)


# Refusals of the rules that are about an input: the rule that it breaks, and which it can be. The
# message begins with its name, where it is not the first.
INPUTS: Mapping[Code, tuple[Rule, tuple[str, ...]]] = MappingProxyType(
    {
        ErrorCode.INVALID_PACK: (Rule.CHOICE, ("pack", "currency")),
        ErrorCode.INVALID_SHOP: (Rule.FORMAT, ("platform", "domain")),
        ErrorCode.INVALID_TRIAL_END: (Rule.RANGE, ("ends_at", "days")),
        ErrorCode.CLOCK_REFUSED: (Rule.RANGE, ("to",)),
        ErrorCode.INSUFFICIENT_CREDITS: (Rule.RANGE, ("credits",)),
        ErrorCode.IDEMPOTENCY_KEY_REUSED: (Rule.CONFLICT, ("idempotency_key",)),
    }
)


class ApiError(Exception):
    """A refusal on its way out; `details` is JSON for machines, the message for people.

    By default `details` name the input, where the code is about one (`INPUTS`).
    `given` says when it was given first, `retry_after` is in seconds, `headers` are sent with it.
    `credential` is what was wrong, where it is not what every request to the operation has to show.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        details: Any = None,
        *,
        given: "Given | None" = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        credential: Credential | None = None,
    ) -> None:
        super().__init__(message)
        self.error_code = code
        self.message = message
        self.details: Any = _input_named(code, message) if details is None else details
        self.given = given
        self.retry_after = retry_after
        self.headers = headers
        self.credential = credential

    @property
    def status(self) -> HTTPStatus:
        """The status of the answer."""
        return STATUS[self.error_code]


def _input_named(code: Code, message: str) -> list[InvalidField] | None:
    if code not in INPUTS:
        return None
    rule, fields = INPUTS[code]
    first = next((one for one in fields if message.lstrip("`").startswith(one)), fields[0])
    return [InvalidField(first, rule, message)]


def not_ready(message: str) -> ApiError:
    """The answer while a partition moves or recovers: nothing is known, so ask again."""
    return ApiError(WebCode.NOT_READY, message)


def invalid(
    field: str,
    message: str,
    rule: Rule = Rule.FORMAT,
    code: Code = WebCode.VALIDATION_ERROR,
) -> ApiError:
    """The answer where a field, a parameter, a header or the body is not as it has to be."""
    return ApiError(code, message, [InvalidField(field, rule, message)])


def outcome_unknown(why: str) -> ApiError:
    """The answer when a command may have been carried out, or may be still."""
    return ApiError(
        WebCode.OUTCOME_UNKNOWN,
        f"{why}: whether the request was carried out is not known. Repeating it with the same "
        "idempotency key is safe, and gives the one true answer",
    )


class Given(Struct, frozen=True):
    """When an answer was given first, and whether this one repeats it: a stored answer."""

    at: datetime
    replayed: bool = False


class Ids(Struct, frozen=True):
    """What ties an answer to its request, and requests to each other."""

    request_id: str
    correlation_id: str


class ErrorBody(Struct, frozen=True):
    """Why there is no `data`."""

    code: str
    message: str
    details: Any = None


class Meta(Struct, frozen=True):
    """About the answer itself; `timestamp` is when it was given first."""

    request_id: str
    correlation_id: str
    timestamp: Instant


class Pagination(Struct, frozen=True):
    """Which part of a list this is; pages count from 1.

    `next_cursor` asks for what follows, also while items are added; null at the end of the list.
    After a cursor, `page` is the page that the first item is on by now.
    """

    page: int
    limit: int
    total: int
    total_pages: int
    next_cursor: str | None = None


class ApiResponse(Struct, frozen=True):
    """Every answer: either `data` or `error`; lists have `pagination`."""

    data: Any
    error: ErrorBody | None
    meta: Meta
    pagination: Pagination | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_IDS = web.RequestKey("billing_ids", Ids)
# What the answer says of the limit that counted the request, whatever else it says.
RATE_LIMITED = web.RequestKey("billing_rate_limit", Mapping[str, str])


def ids_of(request: web.BaseRequest) -> Ids:
    """The ids the caller chose, where they are acceptable; else fresh ones."""
    ids = request.get(_IDS)
    if ids is None:
        request_id = _safe(request, REQUEST_ID) or str(uuid.uuid4())
        ids = request[_IDS] = Ids(request_id, _safe(request, CORRELATION_ID) or request_id)
        # For every line that is logged on behalf of the request.
        bind_contextvars(correlation_id=ids.correlation_id, request_id=ids.request_id)
    return ids


def _safe(request: web.BaseRequest, header: str) -> str | None:
    value = request.headers.get(header)
    return value if value is not None and SAFE_ID.fullmatch(value) else None


def respond(
    request: web.BaseRequest,
    data: Any,
    *,
    status: int = HTTPStatus.OK,
    pagination: Pagination | UnsetType = UNSET,
    given: Given | None = None,
    location: str | None = None,
) -> web.Response:
    """An answer with data; `given` says when it was given first, now by default."""
    headers = {LOCATION: location} if location else {}
    return _response(
        request, status, data, None, given=given, pagination=pagination, headers=headers
    )


def respond_error(request: web.BaseRequest, error: ApiError) -> web.Response:
    """An answer that refuses."""
    code = error.error_code
    headers = {**CODE_HEADERS.get(code, {}), **error.headers}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    said = ErrorBody(code, shown(error.message), error.details)
    return _response(request, STATUS[code], None, said, given=error.given, headers=headers)


def _response(
    request: web.BaseRequest,
    status: int,
    data: Any,
    error: ErrorBody | None,
    *,
    given: Given | None,
    pagination: Pagination | UnsetType = UNSET,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> web.Response:
    ids = ids_of(request)
    meta = Meta(ids.request_id, ids.correlation_id, given.at if given else datetime.now(UTC))
    sent = CIMultiDict(HEADERS)
    sent.update(request.get(RATE_LIMITED, {}))
    sent.update(headers)
    if given is not None and given.replayed:
        sent[REPLAYED] = "true"
    sent[REQUEST_ID] = ids.request_id
    sent[CORRELATION_ID] = ids.correlation_id
    return web.Response(
        body=_encode(ApiResponse(data, error, meta, pagination)),
        status=status,
        headers=sent,
        content_type="application/json",
        charset="utf-8",
    )


def route_of(request: web.Request) -> str:
    """The path as registered: what callers put into it is not for the log."""
    resource = request.match_info.route.resource
    return (resource.canonical.rstrip("/") or "/") if resource is not None else "an unknown path"


_CODES: Mapping[int, tuple[Code, str]] = MappingProxyType(
    {
        404: (WebCode.NOT_FOUND, "there is nothing at this path"),
        405: (WebCode.METHOD_NOT_ALLOWED, "this path has no such method"),
    }
)


@web.middleware
async def envelope_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Our envelope for what no operation answers: unknown paths, wrong methods, our own faults."""
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
        return respond_error(request, fault())


def fault() -> ApiError:
    """The answer when something is wrong with us; what it is, is in the log."""
    return ApiError(WebCode.INTERNAL_ERROR, "the service failed, and the failure is logged")


def nothing_here() -> ApiError:
    """The answer where there is nothing."""
    return ApiError(*_CODES[HTTPStatus.NOT_FOUND])
