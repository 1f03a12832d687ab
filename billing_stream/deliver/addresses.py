"""Which addresses outgoing webhooks are sent to: public ones, unless private ones are allowed."""

import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from yarl import URL

from billing_stream.errors import BillingError

URL_CHARACTERS_MAX = 2000

_UNICAST = ipaddress.ip_network("2000::/3")
# The IPv4 address is in the last 32 bits: a gateway would connect to it (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class EndpointError(BillingError):
    """An endpoint that cannot be what was asked for; the text is why."""


class AddressRefused(OSError):
    """An endpoint resolved to an address that is not public."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the Internet. A zone (`%eth0`) makes it local.

    >>> [is_public(a) for a in ("8.8.8.8", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1")]
    [True, False, False, False]
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return found.is_global and not found.is_multicast
    inner = found.ipv4_mapped or found.sixtofour
    if found in _NAT64:
        inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    if inner is not None:
        return is_public(str(inner))
    return found in _UNICAST and found.is_global


def public_sockets(address_info: tuple[Any, ...]) -> socket.socket:
    """A socket for an address that was resolved. Raises AddressRefused before it connects.

    It is looked at here, and not when the name is: names may have other addresses by then.
    """
    family, kind, protocol, _, address = address_info
    if not is_public(str(address[0])):
        raise AddressRefused(
            errno.EACCES, f"{address[0]} is not a public address (BILLING_WEBHOOKS_ALLOW_PRIVATE)"
        )
    return socket.socket(family, kind, protocol)


def socket_factory(*, allow_private: bool) -> Callable[[tuple[Any, ...]], socket.socket] | None:
    """What aiohttp makes the sockets of connections with; None: as usual."""
    return None if allow_private else public_sockets


def checked_url(text: str, *, allow_private: bool) -> str:
    """The address of an endpoint, in one form. Raises EndpointError."""
    try:
        url = URL(text)
    except ValueError:
        raise EndpointError("the address is not a URL") from None
    schemes = ("https", "http") if allow_private else ("https",)
    if url.scheme not in schemes or not url.host:
        hint = "" if allow_private else " (http:// with BILLING_WEBHOOKS_ALLOW_PRIVATE=true)"
        raise EndpointError(f"the address is not {' or '.join(schemes)}://host/...{hint}")
    if url.user is not None or url.password is not None or url.fragment:
        raise EndpointError("the address may not have a user, a password or a fragment")
    if len(str(url)) > URL_CHARACTERS_MAX:
        raise EndpointError(f"the address is longer than {URL_CHARACTERS_MAX} characters")
    if not allow_private and _is_ip(url.host) and not is_public(url.host):
        raise EndpointError(f"{url.host} is not a public address (BILLING_WEBHOOKS_ALLOW_PRIVATE)")
    return str(url)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
