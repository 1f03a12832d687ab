"""Which addresses are those of workers: the patterns of BILLING_PEERS.

Any member of the consumer group can give any address as its own, and workers send requests there.
"""

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from yarl import URL

_PATTERN = re.compile(
    r"(?:\[(?P<network>[0-9a-f:./]+)\]|(?P<host>[a-z0-9*._/-]+))(?::(?P<port>[0-9]{1,5}))?"
)
_PRINTED = re.compile(r"[!-~]{1,512}")
_LABEL = re.compile(r"[a-z0-9*_-]+")

Matches = Callable[[str], bool]


class PeerAddresses:
    """Patterns, comma separated: a name, `*` for any characters but dots, or a network.

    Each with a port or for any; None allows each host. Raises ValueError for any other text, and
    for a pattern that matches addresses that anyone can have.

    >>> PeerAddresses("*.workers, 10.1.0.0/16:8000").allow("http://10.1.2.3:8000")
    True
    """

    def __init__(self, text: str | None) -> None:
        patterns = [] if text is None else text.split(",")
        self._patterns = [_parse(one.strip().lower()) for one in patterns]

    def allow(self, url: str) -> bool:
        """Whether it is scheme, host and port and nothing else, and matches one of these."""
        if not _PRINTED.fullmatch(url):
            return False
        try:
            found = URL(url)
            host, port = (found.raw_host or "").lower(), found.port
            whole = found.scheme in ("http", "https") and found == found.origin()
        except ValueError:
            return False
        matching = (matches(host) for matches, only in self._patterns if only in (None, port))
        return whole and (not self._patterns or any(matching))


def _parse(pattern: str) -> tuple[Matches, int | None]:
    parts = _PATTERN.fullmatch(pattern)
    if parts is None:
        raise ValueError(f"{pattern!r} is not a pattern of addresses: {FORM}")
    port = int(parts["port"]) if parts["port"] else None
    text = parts["network"] or parts["host"]
    try:
        network = ip_network(text)
    except ValueError:
        return _of_names(text), port

    def within(host: str) -> bool:
        try:
            return ip_address(host) in network
        except ValueError:
            return False

    return within, port


def _of_names(pattern: str) -> Matches:
    *_, last = labels = pattern.split(".")
    if not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{pattern!r} is not a pattern of addresses: {FORM}")
    # Such as worker.* or 10.1.*.*, which is also the name 10.1.evil.example.
    if not re.search("[a-z]", last) or ("*" in last and len(labels) > 1):
        raise ValueError(f"{pattern!r} matches addresses that anyone can have: {FORM}")
    form = re.compile("[a-z0-9_-]+".join(map(re.escape, pattern.split("*"))))
    return lambda host: form.fullmatch(host) is not None


FORM = (
    "names as *.billing-stream-workers or networks as 10.1.0.0/16, each with or without :port, "
    "comma separated"
)
