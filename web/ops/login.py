"""Logging in and out. See `web.ops.session`."""

import re
from contextlib import suppress
from http import HTTPStatus

from aiohttp import web

from billing_stream.observability.audit_log import audit, audited
from billing_stream.web.envelope import ApiError, ids_of
from billing_stream.web.ops.ops_views import LOGIN_PATH, OPS_PATH, OpsView, read_form, see
from billing_stream.web.ops.session import begin
from billing_stream.web.refusals import Credential, source_of
from billing_stream.web.views import route_of

LOGOUT_PATH = "/ops/logout"
# Within these pages, and nothing that a browser could take for another host.
_NEXT = re.compile(r"/ops(/[A-Za-z0-9@._~/-]{0,200})?(\?[A-Za-z0-9@._~%=&:+-]{0,300})?")


class Login(OpsView):
    """`/ops/login`"""

    async def get(self, request: web.Request) -> web.Response:
        """The form that takes an operator's token."""
        return self._form(request, request.query.get("next", ""))

    async def post(self, request: web.Request) -> web.Response:
        """Keep a cookie in place of the token, for as long as the token is good."""
        self.context.cookies.require_same_site(request)
        form = await read_form(request)
        source, request_id = source_of(request), ids_of(request).request_id
        try:
            self.context.login_limit.require_room(source)
            cookie, seconds, operator = begin(form.get("token", ""), *self.context.internal_secrets)
        except ApiError as error:
            self._count_failure(request, source)
            return self._form(request, form.get("next", ""), error)
        audit("login", operator=operator, request_id=request_id, source=source)
        response = see(_next(form.get("next", "")))
        self.context.cookies.set(request, response, cookie, seconds)
        return response

    def _count_failure(self, request: web.Request, source: str) -> None:
        self.context.refusals.note(Credential.LOGIN, route_of(request))
        # One beyond the limit is refused all the same.
        with suppress(ApiError):
            self.context.login_limit.hit(source)

    def _form(
        self, request: web.Request, target: str, error: ApiError | None = None
    ) -> web.Response:
        late = None if error is None else error.retry_after
        headers = {} if late is None else {"Retry-After": str(late)}
        return self.page(
            request,
            "login.html",
            None,
            status=HTTPStatus.OK if error is None else error.code,
            headers=headers,
            target=_next(target),
            error=None if error is None else error.message,
        )


class Logout(OpsView):
    """`/ops/logout`"""

    async def post(self, request: web.Request) -> web.Response:
        """End the session on all workers, and have the browser forget the cookie."""
        session = self.session(request)
        await self.form_of(request, session)
        request_id = ids_of(request).request_id
        with audited("logout", operator=session.operator, request_id=request_id):
            if session.id:
                await self.context.ended_sessions.end(session.id, session.expires)
        response = see(LOGIN_PATH)
        self.context.cookies.delete(response)
        return response


def _next(said: str) -> str:
    """Where to go after a login: only to a page of the dashboard.

    >>> _next("/ops/workers"), _next("/ops//evil.example"), _next("https://evil.example")
    ('/ops/workers', '/ops', '/ops')
    """
    return said if _NEXT.fullmatch(said) and "//" not in said else OPS_PATH
