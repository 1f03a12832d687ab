"""Settings with which production starts: secrets as a generator makes them, the same every time."""

import hashlib


def secret(name: str) -> str:
    """A strong secret of its own for each name."""
    return hashlib.sha256(f"of a test: {name}".encode()).hexdigest()


PRODUCTION = {
    "APP_ENV": "production",
    "BILLING_API_EXTERNAL_PORT": "8000",
    "BILLING_INTERNAL_PORT": "8000",
    "BILLING_OPS_PORT": "8000",
    "CLIENT_JWT_SECRET": secret("client"),
    "INTERNAL_JWT_SECRET": secret("internal"),
    "BILLING_PEERS": "127.0.0.1",
    "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "SHOPIFY_API_KEY": secret("key")[:32],
    "SHOPIFY_API_SECRET": "shpss_" + secret("shopify")[:32],
    "SHOPIFY_API_VERSION": "2026-10",
}
