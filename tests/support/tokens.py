"""Tokens as clients of the API have them, and such as nobody should have."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
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


def old_worker_headers(secret: str = INTERNAL_SECRET, **claims: Any) -> dict[str, str]:
    """What a worker of 0.5.x shows another, as it was made there."""
    now = int(time.time())
    made = {"aud": "billing-stream/internal", "iat": now, "exp": now + 30, **claims}
    return bearer(made, secret)


def peer_headers(
    address: str,
    method: str,
    target: str,
    sent: bytes = b"",
    /,
    *,
    secret: str = INTERNAL_SECRET,
    **claims: Any,
) -> dict[str, str]:
    """What a worker shows another with one call, whose body is `sent`.

    `claims` replace or (None) remove those it has.
    """
    now = int(time.time())
    made = {
        "aud": "billing-stream/peer",
        "iat": now,
        "exp": now + 5,
        "jti": secrets.token_hex(8),
        "htm": method,
        "htu": address + target,
        "body": hashlib.sha256(sent).hexdigest(),
        **claims,
    }
    return bearer(made, secret)


def bearer(claims: Mapping[str, Any], secret: str) -> dict[str, str]:
    """The header with a token of these claims, without those that are None."""
    kept = {name: value for name, value in claims.items() if value is not None}
    return {"Authorization": f"Bearer {jwt.encode(kept, secret, algorithm='HS256')}"}


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
