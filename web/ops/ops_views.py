"""What the pages have in common: who looks, how a page is made, how a refusal looks."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from billing_stream import __version__
from billing_stream.web.context import Context
from billing_stream.web.envelope import CODE_HEADERS, REQUEST_ID, ApiError, WebCode
from billing_stream.web.limits import read_body
from billing_stream.web.operation import Access, Call, refuse
from billing_stream.web.ops.rendering import HEADERS
from billing_stream.web.ops.session import Session, require_ours, session_of
from billing_stream.web.pagination import Page, parse_page
from billing_stream.web.refusals import Credential

OPS_PATH = "/ops"
LOGIN_PATH = "/ops/login"
FIELDS_MAX = 16
REASON_MAX = 255


def _session(context: Context, request: web.Request) -> Session:
    session = session_of(request, context.cookies.value(request), *context.internal_secrets)
    if session.csrf is not None:
        context.ended_sessions.require_open(session.id)
    return session


async def _session_of(context: Context, request: web.Request) -> Session:
    return _session(context, request)


async def _nobody(_: Context, __: web.Request) -> None:
    return None


def _refuse(context: Context, request: web.Request, error: ApiError) -> web.Response:
    """A refusal: as a page for people, in our envelope for others."""
    credential = None
    if "Authorization" in request.headers:
        credential = Credential.OPERATOR_TOKEN
    elif error.error_code is WebCode.FORBIDDEN:
        credential = Credential.FORM
    elif context.cookies.value(request):
        credential = Credential.SESSION
    if not wants_page(request):
        return refuse(context, request, error, credential)
    refuse(context, request, error, credential)
    if error.error_code is WebCode.UNAUTHORIZED and "Authorization" not in request.headers:
        return _to_login(request)
    try:
        session = _session(context, request)
    except ApiError:
        session = None
    call = Call(context, request, session)
    return page(
        call,
        "error.html",
        status=error.status,
        headers=CODE_HEADERS.get(error.error_code, {}),
        message=error.message,
        request_id=call.ids.request_id,
    )


# An operator who has logged in, or shows a token.
SESSION = Access(
    verify=_session_of, codes=(WebCode.UNAUTHORIZED, WebCode.FORBIDDEN), refuse=_refuse
)
# Whoever is about to log in.
VISITOR = Access(verify=_nobody, refuse=_refuse)


async def form_of(call: Call[Session]) -> dict[str, str]:
    """The content of a form. Raises ApiError when it is malformed."""
    form = await read_form(call.request)
    require_ours(call.who, form)
    if call.who.csrf is not None:
        call.context.cookies.require_same_site(call.request)
    return form


def page(
    call: Call[Session] | Call[None] | Call[Session | None],
    template: str,
    *,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> web.Response:
    """A page made of a template."""
    dashboard = call.context.dashboard
    body = dashboard.environment.get_template(template).render(
        session=call.who,
        path=call.request.path.rstrip("/") or "/",
        here=call.request.path_qs,
        version=__version__,
        now=datetime.now(UTC),
        currency=dashboard.currency,
        **values,
    )
    return web.Response(
        text=body,
        status=status,
        headers={**HEADERS, **(headers or {}), REQUEST_ID: call.ids.request_id},
        content_type="text/html",
    )


def page_of(call: Call[Session], limit: int, name: str = "page") -> Page:
    """The requested page number, from a parameter. Raises ApiError (VALIDATION_ERROR)."""
    return Page(parse_page({"page": call.request.query.get(name, "1")}).number, limit)


def wrong_reason(reason: str, why: str) -> str | None:
    """The problem of the reason for an act, for people, or None."""
    if 0 < len(reason) <= REASON_MAX and reason.isprintable():
        return None
    return f"Say why, in 1 to {REASON_MAX} characters: {why}."


def see(location: str, **query: str) -> web.Response:
    """Go and look there: what answers a form, so that a reload sends nothing again."""
    target = f"{location}?{urlencode(query)}" if query else location
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={**HEADERS, "Location": target})


async def read_form(request: web.Request) -> dict[str, str]:
    """The fields of a form. Raises ApiError (VALIDATION_ERROR) when it is malformed."""
    try:
        text = (await read_body(request)).decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError:
        raise ApiError(WebCode.VALIDATION_ERROR, "malformed form") from None
    return {name: value.strip() for name, value in pairs}


def wants_page(request: web.BaseRequest) -> bool:
    """Whether it is a browser that asks."""
    return "text/html" in request.headers.get("Accept", "")


def _to_login(request: web.Request) -> web.Response:
    if "HX-Request" in request.headers:
        return web.Response(
            status=HTTPStatus.UNAUTHORIZED, headers={**HEADERS, "HX-Redirect": LOGIN_PATH}
        )
    return see(LOGIN_PATH, next=request.path_qs) if request.method == "GET" else see(LOGIN_PATH)
