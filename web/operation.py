"""One HTTP operation: declared next to its handler, and served as it is declared.

Nothing but an `Operation` is routed (`web.server`), and the description of the API is made from
the same declarations (`web.openapi`). The way of a request: its body, a place in flight, who asks,
the arguments, the handler, the answer.
"""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, get_args

import msgspec
from aiohttp import hdrs, typedefs, web
from msgspec import UNSET, Struct, UnsetType

from billing_stream.config.listener_settings import Listener
from billing_stream.domain.outcomes import ErrorCode
from billing_stream.records.invalid_fields import Rule, invalid_field
from billing_stream.web.envelope import (
    ApiError,
    Code,
    Given,
    Ids,
    Pagination,
    WebCode,
    ids_of,
    invalid,
    not_ready,
    outcome_unknown,
    respond,
    respond_error,
    route_of,
)
from billing_stream.web.limits import read_body, served_here
from billing_stream.web.pagination import parse_page
from billing_stream.web.refusals import Credential

if TYPE_CHECKING:
    from billing_stream.web.context import Context

Who = TypeVar("Who")
Data = TypeVar("Data")
Arguments = ParamSpec("Arguments")
Body = TypeVar("Body")

IDEMPOTENCY_KEY = "Idempotency-Key"
KEY_MAX = 255
_JSON = re.compile(r"\s*application/(json|[\w.-]+\+json)\s*(;.*)?", re.IGNORECASE | re.ASCII)
# It stands in a changelog's key and in PostgreSQL, so no control characters.
_KEY = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}")

# A parameter of a path, with the form of its values.
PATH_PARAMETER = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})*))?\}")
_FOR_CREDENTIALS = (WebCode.UNAUTHORIZED, WebCode.FORBIDDEN)


class Answer(Struct, Generic[Data], frozen=True):
    """What a handler answers; `given` says when it was given first, now by default.

    `location` is the path of what was made, where it can be read.
    """

    data: Data
    given: Given | None = None
    pagination: Pagination | UnsetType = UNSET
    location: str | None = None


@dataclass(frozen=True)
class Call(Generic[Who]):
    """A request to an operation, and who asks."""

    context: "Context"
    request: web.Request
    who: Who

    @property
    def ids(self) -> Ids:
        """The ids of the request."""
        return ids_of(self.request)


Handler = Callable[..., Awaitable[Answer[Any] | web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class Access(Generic[Who]):
    """Who may ask. `verify` gives who asks, or raises ApiError with one of `codes`.

    `credential` is what a request has to show, `scheme` the name of that in the description and
    `described` its form; `headers` are the others it needs, each with a text and an example.
    Where it `signs_body`, the body of a GET is read, too. `refuse` answers refusals, in the
    envelope by default.
    """

    verify: Callable[["Context", web.Request], Awaitable[Who]]
    codes: tuple[Code, ...] = ()
    credential: Credential | None = None
    scheme: str | None = None
    described: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    signs_body: bool = False
    refuse: Callable[["Context", web.Request, ApiError], web.Response] | None = None

    def respond(self, context: "Context", request: web.Request, error: ApiError) -> web.Response:
        """The answer to a refusal, which is counted where it is one for credentials."""
        if self.refuse is not None:
            return self.refuse(context, request, error)
        return refuse(context, request, error, self.credential)


def refuse(
    context: "Context", request: web.Request, error: ApiError, credential: Credential | None
) -> web.Response:
    """A refusal in the envelope, counted where it is one for what the request had to show."""
    credential = error.credential or credential
    if credential is not None and error.error_code in _FOR_CREDENTIALS:
        context.refusals.note(credential, route_of(request))
    return respond_error(request, error)


async def _anyone(_: "Context", __: web.Request) -> None:
    return None


ANYONE: Access[None] = Access(verify=_anyone)


@dataclass(frozen=True, kw_only=True)
class About:
    """The description of an operation for clients; `example` is one of its data.

    `body` is the type of a body that the handler reads itself, `details` that of the details
    of its refusals, where it is always the same. `links` name operations that lead on. `location`:
    its good answers say where that is which was made.
    """

    id: str
    tag: str
    summary: str
    example: Any
    body: Any = None
    body_examples: Mapping[str, Any] = field(default_factory=dict)
    details: Any = None
    links: Mapping[str, Any] = field(default_factory=dict)
    location: bool = False


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What an operation takes, and everything that it can answer.

    Its handler takes the call, the parameters of the path, and those it names of these: `body`
    (JSON of that type), `page`, and `key`, the idempotency key from the header or the body.
    `codes` are refusals of the handler's own. An operation that is not `limited` is answered
    whatever else there is to do.
    """

    method: str
    path: str
    handler: Handler
    access: Access[Any]
    listeners: frozenset[Listener]
    about: About | None
    codes: tuple[Code, ...]
    status: HTTPStatus
    limited: bool
    takes: Mapping[str, inspect.Parameter]

    @property
    def data(self) -> Any:
        """The type of the data of a good answer. Raises TypeError where it is not declared."""
        (data,) = get_args(inspect.signature(self.handler).return_annotation)
        return data

    @property
    def body(self) -> Any:
        """The type of its body; None when it has none."""
        if "body" in self.takes:
            return self.takes["body"].annotation
        return self.about.body if self.about is not None else None

    @property
    def body_required(self) -> bool:
        """Whether the body may not be left out."""
        parsed = "body" in self.takes
        return not parsed or any(one.required for one in msgspec.structs.fields(self.body))

    @property
    def paginated(self) -> bool:
        """Whether it answers a page of a list."""
        return "page" in self.takes

    @property
    def idempotent(self) -> bool:
        """Whether it takes an idempotency key."""
        return "key" in self.takes

    @property
    def reads_body(self) -> bool:
        """Whether a body is received; that of any other request is left alone."""
        return self.method != hdrs.METH_GET or self.access.signs_body

    def every_code(self) -> frozenset[Code]:
        """Every way in which it can refuse."""
        found = {*self.codes, *self.access.codes, WebCode.INTERNAL_ERROR}
        if self.limited:
            found.add(WebCode.NOT_READY)
            if self.method != hdrs.METH_GET:
                found.add(WebCode.OUTCOME_UNKNOWN)
        if self.reads_body:
            found |= {WebCode.BAD_REQUEST, WebCode.BODY_TOO_LARGE}
        if "body" in self.takes:
            found |= {WebCode.UNSUPPORTED_MEDIA_TYPE, WebCode.VALIDATION_ERROR}
        if self.paginated:
            found.add(WebCode.VALIDATION_ERROR)
        if self.idempotent:
            found.add(ErrorCode.IDEMPOTENCY_KEY_REUSED)
        if "{" in self.path:
            found.add(WebCode.NOT_FOUND)
        return frozenset(found)

    async def serve(self, context: "Context", request: web.Request, **_: str) -> web.StreamResponse:
        """Answer a request, within the time that there is for it."""
        request[OPERATION] = self
        try:
            if self.reads_body and request.body_exists:
                await context.bodies.receive(request)
            if not self.limited:
                return await self._answer(context, request)
            with context.gate.enter():
                async with asyncio.timeout(context.request_seconds):
                    return await self._answer(context, request)
        except ApiError as error:
            return self.access.respond(context, request, error)
        except TimeoutError:
            why = f"no answer within {context.request_seconds:g} s"
            late = not_ready(why) if self.method == hdrs.METH_GET else outcome_unknown(why)
            return self.access.respond(context, request, late)

    async def _answer(self, context: "Context", request: web.Request) -> web.StreamResponse:
        call = Call(context, request, await self.access.verify(context, request))
        given: dict[str, Any] = dict(request.match_info)
        if "body" in self.takes:
            given["body"] = await parse_body(request, self.takes["body"].annotation)
        if self.idempotent:
            given["key"] = key_of(request, given["body"].idempotency_key)
        if "page" in self.takes:
            given["page"] = parse_page(request.query)
        found = await self.handler(call, **given)
        if isinstance(found, web.StreamResponse):
            return found
        return respond(
            request,
            found.data,
            status=self.status,
            pagination=found.pagination,
            given=found.given,
            location=found.location,
        )


OPERATION = web.RequestKey("billing_operation", Operation)
PUBLIC = frozenset({Listener.PUBLIC})
OPS = frozenset({Listener.OPS})
INTERNAL = frozenset({Listener.INTERNAL})


def operation(
    method: str,
    path: str,
    access: Access[Who],
    *,
    listeners: frozenset[Listener] = PUBLIC,
    about: About | None = None,
    codes: tuple[Code, ...] = (),
    status: HTTPStatus = HTTPStatus.OK,
    limited: bool = True,
) -> Callable[
    [Callable[Concatenate[Call[Who], Arguments], Awaitable[Answer[Any] | web.StreamResponse]]],
    Operation,
]:
    """Declare the operation of a handler, see `Operation`.

    The types of its data and its body are those of the handler; its docstring describes it.
    Raises TypeError for a handler with other arguments.
    """

    def declare(handler: Handler) -> Operation:
        _, *parameters = inspect.signature(handler).parameters.values()
        known = {name for name, _ in PATH_PARAMETER.findall(path)} | {"body", "page"}
        if any(one.name == "body" for one in parameters):
            known.add("key")
        if not known.issuperset(one.name for one in parameters):
            raise TypeError(f"{method} {path} has no such arguments: {parameters}")
        return Operation(
            method=method,
            path=path,
            handler=handler,
            access=access,
            listeners=listeners,
            about=about,
            codes=codes,
            status=status,
            limited=limited,
            takes={one.name: one for one in parameters},
        )

    return declare


async def parse_body(request: web.Request, kind: type[Body]) -> Body:
    """The body as JSON; without one, as if it were `{}`.

    Raises ApiError: VALIDATION_ERROR, naming the field and its rule; BAD_REQUEST when it is not
    JSON; UNSUPPORTED_MEDIA_TYPE when it is declared as another kind. Where nothing is declared, it
    is taken as JSON.
    """
    raw = await read_body(request)
    declared = request.headers.get(hdrs.CONTENT_TYPE)
    if raw and declared is not None and _JSON.fullmatch(declared) is None:
        why, code = "send the body as application/json", WebCode.UNSUPPORTED_MEDIA_TYPE
        raise invalid(str(hdrs.CONTENT_TYPE), why, Rule.CHOICE, code)
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as error:
        found = invalid_field(str(error), kind)
        raise invalid(found.field, found.message, found.rule) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise invalid("", "the body must be JSON", code=WebCode.BAD_REQUEST) from None


def key_of(request: web.Request, in_body: str | None) -> str | None:
    """The idempotency key, from the header or the body, or None.

    Raises ApiError (VALIDATION_ERROR) when it is malformed, or is given more than once, and not
    the same every time.
    """
    keys = set(request.headers.getall(IDEMPOTENCY_KEY, ()))
    if len(keys) > 1:
        raise invalid(
            "idempotency_key", "the headers have different idempotency keys", Rule.CONFLICT
        )
    if in_body is not None and keys - {in_body}:
        raise invalid(
            "idempotency_key",
            "the header and the body have different idempotency keys",
            Rule.CONFLICT,
        )
    key = next(iter(keys), in_body)
    if key is not None and _KEY.fullmatch(key) is None:
        raise invalid(
            "idempotency_key",
            f"an idempotency key has 1 to {KEY_MAX} characters, none of them controls",
        )
    return key


def listener_middleware(served_on: Mapping[str, frozenset[Listener]]) -> typedefs.Middleware:
    """Answer 404 where the path, by its first part, belongs to another listener."""

    @web.middleware
    async def require_listener(
        request: web.Request, handler: typedefs.Handler
    ) -> web.StreamResponse:
        first = request.path.strip("/").partition("/")[0]
        if served_here(request).isdisjoint(served_on.get(first, ())):
            raise web.HTTPNotFound
        return await handler(request)

    return require_listener
