"""Who looks: an operator's token, in the header or kept in a cookie, and the tokens in forms.

The cookie is signed with the secret of the workers, so that each of them knows it, and ends
when the token of the login does. What a form sends is believed only with a token derived from
the cookie: another site can make a browser send cookies, and cannot read them.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from typing import Any

import jwt
from aiohttp import web
from msgspec import Struct

from billing_stream.web.auth import ALGORITHMS, authenticate_operator
from billing_stream.web.envelope import ApiError, WebCode

COOKIE = "billing_ops"
COOKIE_PATH = "/ops"
AUDIENCE = "billing-stream/ops"
SECONDS_MAX = 8 * 3600
CSRF_FIELD = "csrf"


class Session(Struct, frozen=True):
    """Who looks. `csrf` is what forms must send, None where a header says who it is."""

    operator: str
    csrf: str | None = None


def begin(token: str, *known: str) -> tuple[str, int, str]:
    """The cookie for an operator's token, for how many seconds it is good, and the operator.

    One of the secrets has signed the token; the cookie is signed with the first.
    Raises ApiError as `authenticate_operator` does.
    """
    token = token.strip()
    operator = authenticate_operator({"Authorization": f"Bearer {token}"}, *known)
    # Just verified.
    ends = int(jwt.decode(token, options={"verify_signature": False})["exp"])
    now = int(time.time())
    ends = max(now + 1, min(ends, now + SECONDS_MAX))
    claims = {"aud": AUDIENCE, "sub": operator, "exp": ends, "jti": secrets.token_urlsafe(16)}
    return jwt.encode(claims, known[0], algorithm=ALGORITHMS[0]), ends - now, operator


def session_of(request: web.Request, *known: str) -> Session:
    """Who asks; one of the secrets has signed for it.

    Raises ApiError (UNAUTHORIZED, FORBIDDEN) when nobody we know does.
    """
    if "Authorization" in request.headers:
        return Session(authenticate_operator(request.headers, *known))
    cookie = request.cookies.get(COOKIE, "")
    for secret in known:
        claims = _claims(cookie, secret)
        if claims is not None:
            return Session(str(claims["sub"]), _csrf(str(claims["jti"]), secret))
    raise ApiError(WebCode.UNAUTHORIZED, "please log in")


def require_ours(request: web.Request, session: Session, form: Mapping[str, str]) -> None:
    """Raises ApiError (FORBIDDEN) unless the form is one of ours, shown to this session."""
    if session.csrf is None:
        return
    if not hmac.compare_digest(form.get(CSRF_FIELD, "").encode(), session.csrf.encode()):
        raise ApiError(WebCode.FORBIDDEN, "this form is not of this session: load the page again")
    require_same_site(request)


def require_same_site(request: web.Request) -> None:
    """Raises ApiError (FORBIDDEN) when the browser says that another site sent the form."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise ApiError(WebCode.FORBIDDEN, "another site sent this form")


def is_https(request: web.Request) -> bool:
    """Whether the browser came over TLS, to us or to a proxy before us."""
    said = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    return request.secure or said == "https"


def _claims(cookie: str, secret: str) -> dict[str, Any] | None:
    try:
        return jwt.decode(
            cookie,
            secret,
            algorithms=ALGORITHMS,
            audience=AUDIENCE,
            options={"require": ["exp", "aud", "sub", "jti"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        return None


def _csrf(name: str, secret: str) -> str:
    return hmac.new(secret.encode(), f"ops-form/{name}".encode(), hashlib.sha256).hexdigest()
