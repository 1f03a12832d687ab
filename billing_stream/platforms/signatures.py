"""Signatures of webhooks. Stripe's scheme serves the custom gateway too, both ways.

`t=<unix seconds>,v1=<hex HMAC-SHA256 of "{t}.{raw body}">`, with more than one v1 while a
secret is being replaced. As in Stripe's own library, old signatures are refused, and those that
come from the future are not: a sender's clock may be ahead.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from billing_stream.errors import WebhookForged

TOLERANCE_SECONDS = 300

_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def find_header(headers: Mapping[str, str], name: str) -> str | None:
    """The value of a header, whatever the case of its letters; None without it."""
    wanted = name.lower()
    return next((value for key, value in headers.items() if key.lower() == wanted), None)


def usable(secrets: Sequence[str]) -> list[bytes]:
    """The secrets as keys. An empty one is left out: everybody could sign with it."""
    return [secret.encode() for secret in secrets if secret.strip()]


def same(one: str, other: str) -> bool:
    """Whether both are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))


def sign(secret: str, body: bytes, moment: datetime) -> str:
    """The header for `body`, signed at `moment`."""
    seconds = int(moment.timestamp())
    return f"t={seconds},v1={_digest(secret.encode(), seconds, body)}"


def verify(header: str | None, body: bytes, secrets: Sequence[str], now: datetime) -> None:
    """Raises WebhookForged unless one of `secrets` signed `body`, at most 300 s ago."""
    if not header:
        raise WebhookForged("the signature is missing")
    parts = [part.partition("=") for part in header.split(",")]
    timestamp = next((value for name, _, value in parts if name == "t"), "")
    given = [value for name, _, value in parts if name == "v1"]
    if not _TIMESTAMP.fullmatch(timestamp) or not given:
        raise WebhookForged("the signature is malformed")
    seconds = int(timestamp)
    expected = [_digest(secret, seconds, body) for secret in usable(secrets)]
    if not any(same(mine, theirs) for mine in expected for theirs in given):
        raise WebhookForged("the signature is wrong")
    if seconds < now.timestamp() - TOLERANCE_SECONDS:
        raise WebhookForged("the signature is too old")


def _digest(secret: bytes, seconds: int, body: bytes) -> str:
    return hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
