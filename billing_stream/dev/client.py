"""What a client of the API sends: for the demo, and for trying it manually."""

import time

import jwt

SCOPE = "bff:api:access"
OPERATOR_AUDIENCE = "billing-stream/operator"
OPERATOR_SCOPE = "billing:operate"
TOKEN_SECONDS = 3600


def client_token(domain: str, secret: str) -> str:
    """A token for the shop with this domain, good for an hour. `secret` is CLIENT_JWT_SECRET."""
    claims = {"sub": domain, "scope": SCOPE, "exp": int(time.time()) + TOKEN_SECONDS}
    return jwt.encode(claims, secret, algorithm="HS256")


def client_headers(domain: str, secret: str, platform: str = "shopify") -> dict[str, str]:
    """The headers that every request of a client has."""
    return {
        "Authorization": f"Bearer {client_token(domain, secret)}",
        "X-Shop-Platform": platform,
        "X-Shop-Domain": domain,
    }


def operator_token(operator: str, secret: str) -> str:
    """A token of an operator, good for an hour. `secret` is INTERNAL_JWT_SECRET."""
    claims = {
        "sub": operator,
        "aud": OPERATOR_AUDIENCE,
        "scope": OPERATOR_SCOPE,
        "exp": int(time.time()) + TOKEN_SECONDS,
    }
    return jwt.encode(claims, secret, algorithm="HS256")
