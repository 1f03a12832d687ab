"""What the pages have in common: who looks, how a page is made, how a refusal looks."""

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from billing_stream import __version__
from billing_stream.faust_adapter.faust_web import WebError
from billing_stream.web.bodies import read_body
from billing_stream.web.envelope import CODE_HEADERS, REQUEST_ID, ApiError, WebCode, ids_of
from billing_stream.web.ops.dashboard import Dashboard
from billing_stream.web.ops.rendering import HEADERS
from billing_stream.web.ops.session import Session, require_ours, session_of
from billing_stream.web.pagination import Page, parse_page
from billing_stream.web.refusals import Credential
from billing_stream.web.views import ApiView

OPS_PATH = "/ops"
LOGIN_PATH = "/ops/login"
FIELDS_MAX = 16
REASON_MAX = 255


class OpsView(ApiView):
    """A page for operators."""

    credential = Credential.SESSION

    @property
    def dashboard(self) -> Dashboard:
        """What it works with."""
        return self.context.dashboard

    def session(self, request: web.Request) -> Session:
        """Who looks. Raises ApiError when nobody we know does."""
        context = self.context
        cookie = context.cookies.value(request)
        session = session_of(request, cookie, *context.internal_secrets)
        if session.csrf is not None:
            context.ended_sessions.require_open(session.id)
        return session

    async def form_of(self, request: web.Request, session: Session) -> dict[str, str]:
        """What a form of ours sends. Raises ApiError when it is none."""
        form = await read_form(request)
        require_ours(session, form)
        if session.csrf is not None:
            self.context.cookies.require_same_site(request)
        return form

    def page(
        self,
        request: web.Request,
        template: str,
        session: Session | None,
        *,
        status: int = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> web.Response:
        """A page made of a template."""
        body = self.dashboard.environment.get_template(template).render(
            session=session,
            path=request.path.rstrip("/") or "/",
            here=request.path_qs,
            version=__version__,
            now=datetime.now(UTC),
            currency=self.dashboard.currency,
            **values,
        )
        return web.Response(
            text=body,
            status=status,
            headers={**HEADERS, **(headers or {}), REQUEST_ID: ids_of(request).request_id},
            content_type="text/html",
        )

    async def on_request_error(self, request: Any, exc: WebError) -> Any:
        """A refusal: as a page for people, in our envelope for others."""
        if "Authorization" in request.headers:
            self.note_refusal(request, exc, Credential.OPERATOR_TOKEN)
        elif isinstance(exc, ApiError) and exc.error_code is WebCode.FORBIDDEN:
            self.note_refusal(request, exc, Credential.FORM)
        elif self.context.cookies.value(request):
            self.note_refusal(request, exc, Credential.SESSION)
        if not wants_page(request) or not isinstance(exc, ApiError):
            return self.respond_error(request, exc)
        if exc.error_code is WebCode.UNAUTHORIZED and "Authorization" not in request.headers:
            return _to_login(request)
        try:
            session = self.session(request)
        except ApiError:
            session = None
        headers = CODE_HEADERS.get(exc.error_code, {})
        return self.page(
            request,
            "error.html",
            session,
            status=exc.code,
            headers=headers,
            message=exc.message,
            request_id=ids_of(request).request_id,
        )


def page_of(request: web.Request, limit: int, name: str = "page") -> Page:
    """The page of so many that is asked for by a parameter. Raises ApiError (VALIDATION_ERROR)."""
    return Page(parse_page({"page": request.query.get(name, "1")}).number, limit)


def wrong_reason(reason: str, why: str) -> str | None:
    """What is wrong with the reason for an act, for people; None when nothing is."""
    if 0 < len(reason) <= REASON_MAX and reason.isprintable():
        return None
    return f"Say why, in 1 to {REASON_MAX} characters: {why}."


def see(location: str, **query: str) -> web.Response:
    """Go and look there: what answers a form, so that a reload sends nothing again."""
    target = f"{location}?{urlencode(query)}" if query else location
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={**HEADERS, "Location": target})


async def read_form(request: web.Request) -> dict[str, str]:
    """The fields of a form. Raises ApiError (VALIDATION_ERROR) when it is none."""
    try:
        text = (await read_body(request)).decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError:
        raise ApiError(WebCode.VALIDATION_ERROR, "this is no form of ours") from None
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
