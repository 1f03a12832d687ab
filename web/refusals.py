"""Traces of attacks: requests refused for their credentials, counted, and logged once a minute."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from ipaddress import ip_address, ip_network

from aiohttp import web

logger = logging.getLogger(__name__)

SECONDS = 60.0
IPV6_PREFIX = 64


class Credential(StrEnum):
    """What a request had to show, and had not, or had forged."""

    CLIENT_TOKEN = "client_token"
    OPERATOR_TOKEN = "operator_token"
    WORKER_TOKEN = "worker_token"
    # A token for another call, or used before; a command or origin that a caller may not give.
    WORKER_CALL = "worker_call"
    ORIGIN = "origin"
    # Of a worker that was not asked.
    PEER_ADDRESS = "peer_address"
    WEBHOOK = "webhook"
    LOGIN = "login"
    SESSION = "session"
    FORM = "form"


class Refusals:
    """Counts refused requests by credential and route; `count` is called with each.

    The first of a kind and route begins a minute; at its end one line says how many there were.
    Routes are those that are registered, so there are few.
    """

    def __init__(self, count: Callable[[str, str], object], seconds: float = SECONDS) -> None:
        self._count = count
        self._seconds = seconds
        self._refused: Counter[tuple[Credential, str]] = Counter()
        self._timers: dict[tuple[Credential, str], asyncio.TimerHandle] = {}

    def note(self, credential: Credential, route: str) -> None:
        """Count one. Call it in the event loop."""
        self._count(credential, route)
        kind = credential, route
        self._refused[kind] += 1
        if kind not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[kind] = loop.call_later(self._seconds, self._report, kind)

    def close(self) -> None:
        """Log what was counted since the last lines."""
        for kind in list(self._timers):
            self._timers[kind].cancel()
            self._report(kind)

    def _report(self, kind: tuple[Credential, str]) -> None:
        del self._timers[kind]
        count, (credential, route) = self._refused.pop(kind), kind
        # The route is in the text, so that equal lines of two routes are not held back.
        text = "refused %s requests to %s within a minute for their credentials: %s"
        if credential is Credential.PEER_ADDRESS:
            text = "did not send %s requests to %s of workers that BILLING_PEERS does not allow: %s"
        logger.warning(text, count, route, credential.value, extra={"route": route, "count": count})


def source_of(request: web.BaseRequest) -> str:
    """Who sends a request, for limits: its address, of IPv6 the network of one subscriber."""
    remote = request.remote or ""
    try:
        address = ip_address(remote)
    except ValueError:
        return remote
    if address.version == 4:
        return remote
    return str(ip_network((address, IPV6_PREFIX), strict=False))
