"""Logging in and out. See `web.ops.session`."""

import re
from http import HTTPStatus

from aiohttp import web

from billing_stream.web.envelope import ApiError
from billing_stream.web.ops.ops_views import LOGIN_PATH, OPS_PATH, OpsView, read_form, see
from billing_stream.web.ops.session import COOKIE, COOKIE_PATH, begin, is_https, require_same_site

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
        require_same_site(request)
        form = await read_form(request)
        try:
            cookie, seconds = begin(form.get("token", ""), *self.context.internal_secrets)
        except ApiError as error:
            return self._form(request, form.get("next", ""), error)
        response = see(_next(form.get("next", "")))
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=seconds,
            path=COOKIE_PATH,
            httponly=True,
            samesite="Strict",
            secure=is_https(request),
        )
        return response

    def _form(
        self, request: web.Request, target: str, error: ApiError | None = None
    ) -> web.Response:
        return self.page(
            request,
            "login.html",
            None,
            status=HTTPStatus.OK if error is None else error.code,
            target=_next(target),
            error=None if error is None else error.message,
        )


class Logout(OpsView):
    """`/ops/logout`"""

    async def post(self, request: web.Request) -> web.Response:
        """Forget the cookie."""
        session = self.session(request)
        await self.form_of(request, session)
        response = see(LOGIN_PATH)
        response.del_cookie(COOKIE, path=COOKIE_PATH, httponly=True, samesite="Strict")
        return response


def _next(said: str) -> str:
    """Where to go after a login: only to a page of the dashboard.

    >>> _next("/ops/workers"), _next("/ops//evil.example"), _next("https://evil.example")
    ('/ops/workers', '/ops', '/ops')
    """
    return said if _NEXT.fullmatch(said) and "//" not in said else OPS_PATH
