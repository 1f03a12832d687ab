"""The addresses to which a platform sends the merchant back: those that a browser can open."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from billing_stream.domain.model import Platform
from billing_stream.web.envelope import invalid

SESSION_TEMPLATE = "{CHECKOUT_SESSION_ID}"
"""Stripe puts the id of its session there."""

_MAX = 2048
# What no part of an address has. It is shown in pages and sent in headers.
_ODD = r"\s\x00-\x20\x7f\x22'<>\\^`|"
_CHARACTERS = re.compile(rf"[^{_ODD}{{}}]+")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
HOST_MAX = 253


def _url(description: str) -> Meta:
    return Meta(
        max_length=_MAX,
        description=f"{description}: http or https, with a host and without user info. With "
        f"Stripe it may have `{SESSION_TEMPLATE}`",
        # For readers; `require_url` is what refuses.
        extra_json_schema={"format": "uri", "pattern": rf"^https?://[^{_ODD}]+$"},
    )


ReturnUrl = Annotated[str, _url("Where the merchant goes after the payment")]
CancelUrl = Annotated[
    str, _url("Where the merchant goes who does not pay, by default `return_url`. Not with Shopify")
]


def require_url(field: str, url: str | None, platform: Platform) -> None:
    """Raise ApiError (VALIDATION_ERROR), naming the field, unless a browser can be sent there."""
    why = None if url is None else _wrong(url, platform)
    if why is not None:
        raise invalid(field, f"{field} {why}")


def _wrong(url: str, platform: Platform) -> str | None:
    filled = url.replace(SESSION_TEMPLATE, "cs") if platform is Platform.STRIPE else url
    if not url.startswith(("http://", "https://")):
        return "must begin with http:// or https://"
    if SESSION_TEMPLATE in filled:
        return f"may have {SESSION_TEMPLATE} with stripe only"
    if _CHARACTERS.fullmatch(filled) is None or not filled.isprintable():
        return "has characters that are not allowed in a URL"
    try:
        parts = urlsplit(filled)
        port, host = parts.port, parts.hostname
    except ValueError:
        return "has a host or a port that is malformed"
    if "@" in parts.netloc:
        return "must have no user name and no password"
    if port == 0 or not host or not _is_host(host, parts.netloc):
        return "has a host or a port that is malformed"
    if SESSION_TEMPLATE in urlsplit(url).netloc:
        return f"must not have {SESSION_TEMPLATE} in its host"
    return None


def _is_host(host: str, netloc: str) -> bool:
    """Whether it is an IP address, or the name of a host in any script."""
    try:
        if netloc.startswith("["):
            return bool(IPv6Address(host))
        labels = host.removesuffix(".").encode("idna").decode().split(".")
        if _NUMBER.fullmatch(labels[-1]):
            # Browsers take it for an IPv4 address.
            return bool(IPv4Address(host))
    except (AddressValueError, UnicodeError):
        return False
    return len(host) <= HOST_MAX and all(_LABEL.fullmatch(label) for label in labels)
