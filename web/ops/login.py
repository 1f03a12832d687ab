"""Logging in and out. See `web.ops.session`."""

import re
from contextlib import suppress
from http import HTTPStatus

from aiohttp import web

from billing_stream.observability.audit_log import audit, audited
from billing_stream.web.envelope import ApiError, WebCode, route_of
from billing_stream.web.operation import OPS, Call, operation
from billing_stream.web.ops.ops_views import (
    LOGIN_PATH,
    OPS_PATH,
    SESSION,
    VISITOR,
    form_of,
    page,
    read_form,
    see,
)
from billing_stream.web.ops.session import Session, begin
from billing_stream.web.refusals import Credential, source_of

LOGOUT_PATH = "/ops/logout"
# Within these pages, and nothing that a browser could take for another host.
_NEXT = re.compile(r"/ops(/[A-Za-z0-9@._~/-]{0,200})?(\?[A-Za-z0-9@._~%=&:+-]{0,300})?")


@operation("GET", LOGIN_PATH, VISITOR, listeners=OPS)
async def show_login(call: Call[None]) -> web.Response:
    """The form that takes an operator's token."""
    return _form(call, call.request.query.get("next", ""))


@operation(
    "POST", LOGIN_PATH, VISITOR, listeners=OPS, codes=(WebCode.FORBIDDEN, WebCode.VALIDATION_ERROR)
)
async def login(call: Call[None]) -> web.Response:
    """Keep a cookie in place of the token, for as long as the token is good."""
    context, request = call.context, call.request
    context.cookies.require_same_site(request)
    form = await read_form(request)
    source = source_of(request)
    try:
        context.login_limit.require_room(source)
        cookie, seconds, operator = begin(form.get("token", ""), *context.internal_secrets)
    except ApiError as error:
        context.refusals.note(Credential.LOGIN, route_of(request))
        # One beyond the limit is refused all the same.
        with suppress(ApiError):
            context.login_limit.hit(source)
        return _form(call, form.get("next", ""), error)
    audit("login", operator=operator, request_id=call.ids.request_id, source=source)
    response = see(_next(form.get("next", "")))
    context.cookies.set(request, response, cookie, seconds)
    return response


@operation("POST", LOGOUT_PATH, SESSION, listeners=OPS, codes=(WebCode.VALIDATION_ERROR,))
async def logout(call: Call[Session]) -> web.Response:
    """End the session on all workers, and have the browser forget the cookie."""
    await form_of(call)
    session = call.who
    with audited("logout", operator=session.operator, request_id=call.ids.request_id):
        if session.id:
            await call.context.ended_sessions.end(session.id, session.expires)
    response = see(LOGIN_PATH)
    call.context.cookies.delete(response)
    return response


def _form(call: Call[None], target: str, error: ApiError | None = None) -> web.Response:
    late = None if error is None else error.retry_after
    return page(
        call,
        "login.html",
        status=HTTPStatus.OK if error is None else error.status,
        headers={} if late is None else {"Retry-After": str(late)},
        target=_next(target),
        error=None if error is None else error.message,
    )


def _next(said: str) -> str:
    """Where to go after a login: only to a page of the dashboard.

    >>> _next("/ops/workers"), _next("/ops//evil.example"), _next("https://evil.example")
    ('/ops/workers', '/ops', '/ops')
    """
    return said if _NEXT.fullmatch(said) and "//" not in said else OPS_PATH
