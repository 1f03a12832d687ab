"""The cookie of a session, and which site a form may come from.

In staging and production the cookie is named with `__Host-`: browsers take it over TLS only, from
this host only, and no other host of the domain can set one in its place.
"""

from urllib.parse import urlsplit

from aiohttp import web

from billing_stream.web.envelope import ApiError, WebCode

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class CookiePolicy:
    """How the cookie is set. `public_url` is where browsers reach this service, if that is set."""

    def __init__(self, is_real: bool, public_url: str | None = None) -> None:
        self._is_real = is_real
        self._public = _host(urlsplit(public_url).netloc, "") if public_url else None
        self.name = "__Host-billing_ops" if is_real else "billing_ops"
        # What `__Host-` demands.
        self.path = "/" if is_real else "/ops"

    def value(self, request: web.Request) -> str:
        """The cookie that came, empty without one."""
        return request.cookies.get(self.name, "")

    def set(self, request: web.Request, response: web.Response, value: str, seconds: int) -> None:
        """Have the browser keep the cookie for this time."""
        response.set_cookie(
            self.name,
            value,
            max_age=seconds,
            path=self.path,
            httponly=True,
            samesite="Strict",
            secure=self._is_real or _is_https(request),
        )

    def delete(self, response: web.Response) -> None:
        """Have the browser forget the cookie."""
        response.del_cookie(
            self.name, path=self.path, httponly=True, samesite="Strict", secure=self._is_real
        )

    def require_same_site(self, request: web.Request) -> None:
        """Raises ApiError (FORBIDDEN) when the browser says that another site sent the form."""
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        origins = request.headers.getall("Origin", [])
        if site not in ("same-origin", "none") or not all(
            self._is_ours(origin, request.host) for origin in origins
        ):
            raise ApiError(WebCode.FORBIDDEN, "another site sent this form")

    def _is_ours(self, origin: str, asked: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        schemes = ("https",) if self._is_real else ("http", "https")
        if parts.scheme not in schemes or parts.path or parts.query or parts.fragment:
            return False
        ours = {_host(asked, parts.scheme), self._public}
        return _host(parts.netloc, parts.scheme) in ours


def _host(netloc: str, scheme: str) -> str:
    """Host and port, the latter where it is not the scheme's own."""
    return netloc.lower().removesuffix(_DEFAULT_PORTS.get(scheme, "\0"))


def _is_https(request: web.Request) -> bool:
    """Whether the browser came over TLS, to us or to a proxy before us."""
    said = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    return request.secure or said == "https"
