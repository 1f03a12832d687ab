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

AUDIENCE = "billing-stream/ops"
SECONDS_MAX = 8 * 3600
CSRF_FIELD = "csrf"


class Session(Struct, frozen=True):
    """Who looks. `csrf` is what forms must send, None where a header says who it is.

    `id` and `expires` (seconds since the epoch) are those of the cookie.
    """

    operator: str
    csrf: str | None = None
    id: str = ""
    expires: float = 0.0


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


def session_of(request: web.Request, cookie: str, *known: str) -> Session:
    """Who asks, by the header Authorization or else the cookie; one of the secrets has signed it.

    Raises ApiError (UNAUTHORIZED, FORBIDDEN) without a known operator.
    """
    if "Authorization" in request.headers:
        return Session(authenticate_operator(request.headers, *known))
    for secret in known:
        claims = _claims(cookie, secret)
        if claims is not None:
            name = str(claims["jti"])
            return Session(str(claims["sub"]), _csrf(name, secret), name, float(claims["exp"]))
    raise ApiError(WebCode.UNAUTHORIZED, "please log in")


def require_ours(session: Session, form: Mapping[str, str]) -> None:
    """Raises ApiError (FORBIDDEN) unless the form was shown to this session."""
    if session.csrf is None:
        return
    if not hmac.compare_digest(form.get(CSRF_FIELD, "").encode(), session.csrf.encode()):
        raise ApiError(WebCode.FORBIDDEN, "this form is not of this session: load the page again")


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
