"""Tokens as clients of the API have them, and such as nobody should have."""

import base64
import json
import time
from typing import Any

import jwt

from tests.support.worker import CLIENT_SECRET, INTERNAL_SECRET

SCOPE = "bff:api:access"


def client_token(domain: str, *, secret: str = CLIENT_SECRET, **claims: Any) -> str:
    """A good token for a shop; `claims` replace or (None) remove those it has."""
    all_claims = {"sub": domain, "scope": SCOPE, "exp": int(time.time()) + 300, **claims}
    kept = {name: value for name, value in all_claims.items() if value is not None}
    return jwt.encode(kept, secret, algorithm="HS256")


def operator_token(operator: str, *, secret: str = INTERNAL_SECRET, **claims: Any) -> str:
    """A good token of an operator; `claims` replace or (None) remove those it has."""
    all_claims = {
        "sub": operator,
        "aud": "billing-stream/operator",
        "scope": "billing:operate",
        "exp": int(time.time()) + 300,
        **claims,
    }
    kept = {name: value for name, value in all_claims.items() if value is not None}
    return jwt.encode(kept, secret, algorithm="HS256")


def operator_headers(operator: str = "olga", **claims: Any) -> dict[str, str]:
    """The headers of an operator."""
    return {"Authorization": f"Bearer {operator_token(operator, **claims)}"}


def unsigned_token(domain: str) -> str:
    """A token with the algorithm "none"."""
    claims = {"sub": domain, "scope": SCOPE, "exp": int(time.time()) + 300}
    return f"{segment({'alg': 'none', 'typ': 'JWT'})}.{segment(claims)}."


def segment(value: Any) -> str:
    """One part of a token."""
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def client_headers(domain: str, *, token: str | None = None, **extra: str) -> dict[str, str]:
    """The headers of a client of this shop; in `extra`, `X_Shop_Domain` is X-Shop-Domain."""
    return {
        "Authorization": f"Bearer {token or client_token(domain)}",
        "X-Shop-Platform": "shopify",
        "X-Shop-Domain": domain,
        **{name.replace("_", "-"): value for name, value in extra.items()},
    }
