"""The description of the HTTP API (OpenAPI 3.1), made from the code that serves it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from billing_stream import __version__
from billing_stream.domain.commands import Key
from billing_stream.domain.outcomes import ErrorCode
from billing_stream.records.examples import CORRELATION_ID as CORRELATION
from billing_stream.records.examples import NOW
from billing_stream.records.invalid_fields import Rule
from billing_stream.records.json_schemas import Schema, components, doc
from billing_stream.web import (
    billing,
    catalogue,
    envelope,
    health,
    history,
    operators,
    pagination,
    purchases,
    webhook_routes,
)
from billing_stream.web.envelope import (
    CORRELATION_ID,
    LOCATION,
    RATE_LIMIT,
    RATE_LIMIT_POLICY,
    REPLAYED,
    REQUEST_ID,
    STATUS,
    ApiError,
    ApiResponse,
    Code,
    ErrorBody,
    Meta,
    Pagination,
    WebCode,
    fault,
    invalid,
    not_ready,
    nothing_here,
)
from billing_stream.web.openapi_schemas import (
    ERROR_RESPONSE,
    REF,
    UNREADY_RESPONSE,
    response_name,
    schemas,
)
from billing_stream.web.operation import IDEMPOTENCY_KEY, PATH_PARAMETER, About, Operation

# Refusals that are kept as the answer to an idempotency key.
STORED_REFUSALS = frozenset(
    {ErrorCode.TRIAL_ALREADY_USED, ErrorCode.PLATFORM_ERROR, ErrorCode.CHECKOUT_REFUSED}
)
RATE_LIMIT_HEADERS = [RATE_LIMIT_POLICY, RATE_LIMIT]
JSON = "application/json"
# In the order in which they are described.
OPERATIONS: tuple[Operation, ...] = (
    *billing.OPERATIONS,
    *history.OPERATIONS,
    *purchases.OPERATIONS,
    *webhook_routes.OPERATIONS,
    *operators.OPERATIONS,
    *operators.TEST_OPERATIONS,
    *catalogue.OPERATIONS,
    *health.OPERATIONS,
)

_ABOUT = """\
Billing for the merchants of an app store: a free trial once, and packs of credits.

Every answer is `{data, error, meta}`, and lists add `pagination`. Credits are whole numbers,
amounts are decimal text, times are UTC. Bodies with fields that are not known are refused.
A POST with an idempotency key can be repeated: the first answer comes again, with the header
`Idempotent-Replayed: true`. Only `meta.request_id` and `meta.correlation_id` are those of the
repetition.

`error.code` states what went wrong; `error.message` is for people. Where a field, a parameter or
a header is wrong, `error.details` is a list that names it and the rule it breaks.

| status | codes |
|---|---|
"""
_TAGS = {
    "billing": "Everything on one page.",
    "trials": "The free trial: once per merchant or shop.",
    "purchases": "Packs of credits, paid through a platform.",
    "webhooks": "For the platforms. The signature is over the raw body, byte for byte.",
    "operators": "For those who look after merchants; not for a public proxy.",
    "health": "For those who run the service.",
}
_IDS = {
    REQUEST_ID: "Names this request",
    CORRELATION_ID: "Names what this request belongs to; by default as the request",
}
_HEADERS: dict[str, Schema] = {
    "Retry-After": {"type": "string", "pattern": "^[1-9][0-9]*$", "description": "seconds"},
    "WWW-Authenticate": {"type": "string"},
    LOCATION: {"type": "string", "format": "uri-reference", "description": "What was made"},
    RATE_LIMIT_POLICY: {
        "type": "string",
        "pattern": '^"[a-z]+";q=[0-9]+;w=60$',
        "description": "`q` requests in `w` seconds, of this shop or platform, at one worker",
    },
    RATE_LIMIT: {
        "type": "string",
        "pattern": '^"[a-z]+";r=[0-9]+;t=[0-9]+$',
        "description": "`r` more now, and all of them again after `t` seconds",
    },
}


def _codes_by_status() -> str:
    return "".join(
        f"| {status.value} | {', '.join(code for code in STATUS if STATUS[code] is status)} |\n"
        for status in sorted(set(STATUS.values()))
    )


def document() -> dict[str, Any]:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "billing-stream",
            "version": __version__,
            "summary": "Billing for merchants of an app store",
            "description": _ABOUT + _codes_by_status(),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                one.access.scheme: dict(one.access.described)
                for one in OPERATIONS
                if one.access.scheme is not None
            },
            "parameters": _parameters(),
            "headers": _response_headers(),
            "schemas": schemas(OPERATIONS),
            "responses": _refusals(),
        },
    }


def described(operation: Operation) -> About:
    """Its description for clients. Raises ValueError without one."""
    if operation.about is None:
        raise ValueError(f"{operation.method} {operation.path} is not described")
    return operation.about


def template(path: str) -> str:
    """The path as OpenAPI writes it.

    >>> template("/a/{id:[0-9]{1,9}}")
    '/a/{id}'
    """
    return PATH_PARAMETER.sub(r"{\1}", path)


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(template(operation.path), {})[operation.method.lower()] = _said(operation)
    return paths


def _said(operation: Operation) -> dict[str, Any]:
    about, scheme = described(operation), operation.access.scheme
    found = {
        "operationId": about.id,
        "summary": about.summary,
        "description": doc(operation.handler),
        "tags": [about.tag],
        "parameters": _parameters_of(operation),
        "responses": {str(operation.status.value): _good(operation), **_refused(operation)},
        "security": [{scheme: []}] if scheme else [],
    }
    if operation.body is not None:
        found["requestBody"] = _request_body(operation)
    return found


def _parameters_of(operation: Operation) -> list[Schema]:
    found = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": f"^(?:{form})$"},
        }
        for name, form in PATH_PARAMETER.findall(operation.path)
    ]
    names = [*operation.access.headers, *_IDS]
    if operation.idempotent:
        names.append(IDEMPOTENCY_KEY)
    if operation.paginated:
        names += ["page", "limit", "cursor"]
    return found + [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _parameters() -> dict[str, Schema]:
    (key,), _ = components([Key], REF)
    found = {
        name: _header(name, text, {"type": "string", "minLength": 1, "maxLength": 255}, example)
        | {"required": True}
        for operation in OPERATIONS
        for name, (text, example) in operation.access.headers.items()
    }
    for name, text in _IDS.items():
        text += "; sent back, and made up when it is missing or not of this form"
        found[name] = _header(name, text, _safe_id(), CORRELATION)
    text = "As `idempotency_key` in the body; the same wherever it is given. No controls"
    found[IDEMPOTENCY_KEY] = _header(IDEMPOTENCY_KEY, text, key, "buy-1")
    for name, default, largest in (
        ("page", 1, pagination.PAGE_MAX),
        ("limit", pagination.LIMIT_DEFAULT, pagination.LIMIT_MAX),
    ):
        number = {"type": "integer", "minimum": 1, "maximum": largest, "default": default}
        found[name] = {"name": name, "in": "query", "schema": number}
    text = "`next_cursor` of an answer: what follows that page. Not with `page`"
    cursor = {"type": "string", "minLength": 1, "maxLength": pagination.CURSOR_MAX}
    found["cursor"] = {"name": "cursor", "in": "query", "description": text, "schema": cursor}
    return found


def _header(name: str, text: str, schema: Schema, example: str) -> Schema:
    return {"name": name, "in": "header", "description": text, "schema": schema, "example": example}


def _safe_id() -> Schema:
    return {"type": "string", "pattern": f"^{envelope.SAFE_ID.pattern}$"}


def _response_headers() -> dict[str, Schema]:
    ids = {
        name: {"description": text, "required": True, "schema": _safe_id()}
        for name, text in _IDS.items()
    }
    text = "That this is the stored answer to the idempotency key; not there otherwise"
    replayed = {REPLAYED: {"description": text, "schema": {"const": "true"}}}
    more = {name: {"required": True, "schema": schema} for name, schema in _HEADERS.items()}
    return ids | replayed | more


def _header_refs(*names: str) -> dict[str, Schema]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*_IDS, *names)}


def _request_body(operation: Operation) -> Schema:
    (schema,), _ = components([operation.body], REF)
    content: Schema = {"schema": schema}
    if described(operation).body_examples:
        examples = _examples(described(operation).body_examples)
        for example in examples.values():
            # What may be left out is, as a client would.
            said = example["value"].items()
            example["value"] = {name: value for name, value in said if value is not None}
        content["examples"] = examples
    return {"required": operation.body_required, "content": {JSON: content}}


def _examples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {"value": msgspec.to_builtins(value)} for name, value in values.items()}


def _good(operation: Operation) -> Schema:
    about = described(operation)
    example = ApiResponse(about.example, None, _META)
    if operation.paginated:
        example = msgspec.structs.replace(example, pagination=Pagination(1, 10, 1, 1))
    headers = [REPLAYED] if operation.idempotent else []
    headers += [LOCATION] if about.location else []
    headers += RATE_LIMIT_HEADERS if ErrorCode.TOO_MANY_REQUESTS in operation.every_code() else []
    found = {
        "description": operation.status.phrase,
        "headers": _header_refs(*headers),
        "content": {
            JSON: {
                "schema": {"$ref": REF.format(name=response_name(operation))},
                "examples": _examples({"good": example}),
            }
        },
    }
    if described(operation).links:
        found["links"] = dict(described(operation).links)
    return found


def _refused(operation: Operation) -> dict[str, Schema]:
    return {
        str(status.value): {
            "$ref": f"#/components/responses/{_name(codes, described(operation).details)}"
        }
        for status, codes in _by_status(operation).items()
    }


def _refusals() -> dict[str, Schema]:
    """Every way to refuse, once: a status with the codes that an operation has for it."""
    return {
        _name(codes, described(operation).details): _refusal(
            status, codes, described(operation).details
        )
        for operation in OPERATIONS
        for status, codes in _by_status(operation).items()
    }


def _by_status(operation: Operation) -> dict[HTTPStatus, list[Code]]:
    found: dict[HTTPStatus, list[Code]] = {}
    for code in sorted(operation.every_code(), key=lambda code: (STATUS[code], code)):
        found.setdefault(STATUS[code], []).append(code)
    return found


def _name(codes: list[Code], details: Any) -> str:
    name = "-".join(codes)
    return f"{name}-{details.__name__}" if details is not None and _is_unready(codes) else name


def _is_unready(codes: list[Code]) -> bool:
    return codes == [WebCode.NOT_READY]


def _refusal(status: HTTPStatus, codes: list[Code], details: Any) -> Schema:
    unready = details is not None and _is_unready(codes)
    shown = {}
    for code in codes:
        why = _WHY.get(code) or ApiError(code, "why, in words")
        said = ErrorBody(str(code), why.message, _UNREADY if unready else why.details)
        shown[str(code)] = ApiResponse(None, said, _META)
    name = UNREADY_RESPONSE if unready else ERROR_RESPONSE
    content = {"schema": {"$ref": REF.format(name=name)}, "examples": _examples(shown)}
    more = {name for code in codes for name in envelope.CODE_HEADERS.get(code, {})}
    more |= {REPLAYED} if STORED_REFUSALS.intersection(codes) else set()
    more |= set(RATE_LIMIT_HEADERS) if ErrorCode.TOO_MANY_REQUESTS in codes else set()
    return {
        "description": f"{status.phrase}: {', '.join(codes)}",
        "headers": _header_refs(*sorted(more)),
        "content": {JSON: content},
    }


_META = Meta(CORRELATION, CORRELATION, NOW)
_UNREADY = health.ReadyBody(False, ["partition 3 is recovering"], [], [])
_WHY: dict[Code, ApiError] = {
    error.error_code: error
    for error in (
        invalid("days", "`days` must be at least 1", Rule.RANGE),
        invalid("", "the body must be JSON", code=WebCode.BAD_REQUEST),
        invalid("", "the body must have at most 65536 bytes", Rule.LENGTH, WebCode.BODY_TOO_LARGE),
        invalid(
            "Content-Type",
            "send the body as application/json",
            Rule.CHOICE,
            WebCode.UNSUPPORTED_MEDIA_TYPE,
        ),
        invalid(
            "platform",
            "`platform` must be one of shopify, custom: the others are not set up here",
            Rule.CHOICE,
            WebCode.UNKNOWN_PLATFORM,
        ),
        ApiError(ErrorCode.INVALID_PACK, "`pack` must be one of small, medium, large"),
        ApiError(ErrorCode.INVALID_SHOP, "domain '12345': its last part is a number"),
        ApiError(
            ErrorCode.INVALID_TRIAL_END,
            "`ends_at` must end the trial after 2026-12-12T08:53:55+00:00 and within ten years",
        ),
        ApiError(ErrorCode.CLOCK_REFUSED, "`to` must be within ten years from now"),
        ApiError(
            ErrorCode.INSUFFICIENT_CREDITS, "`credits` must be at least -80: the merchant has 80"
        ),
        ApiError(
            ErrorCode.IDEMPOTENCY_KEY_REUSED, "the idempotency key was used with other parameters"
        ),
        ApiError(WebCode.UNAUTHORIZED, "the token has expired"),
        nothing_here(),
        not_ready("partition 3 is recovering"),
        fault(),
    )
}
