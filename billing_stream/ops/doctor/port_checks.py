"""Whether a worker and a projector can listen on their ports, or do so already."""

import errno
import os
import socket
from collections.abc import AsyncIterator

import aiohttp

from billing_stream.config.listener_settings import Address
from billing_stream.config.settings import Settings
from billing_stream.ops.doctor.finding import Finding, fail, ok
from billing_stream.web.health import HEALTH_PATH

CHECK = "ports"
OF_A_WORKER = "BILLING_API_EXTERNAL_PORT, BILLING_OPS_PORT or BILLING_INTERNAL_PORT"
ASK = aiohttp.ClientTimeout(total=2.0)
ANY_HOST = frozenset({"", "0.0.0.0", "::"})


async def check_ports(settings: Settings) -> AsyncIterator[Finding]:
    """Each port that the settings name is free, or one of our processes answers there."""
    names = dict.fromkeys(settings.addresses, OF_A_WORKER)
    bind = next(iter(settings.addresses))[0]
    if settings.database_url is not None:
        names[Address(bind, settings.projector_port)] = "BILLING_PROJECTOR_PORT"
    free, taken, wrong = [], [], False
    for (host, port), name in names.items():
        why = _why_not(host, port)
        if why is None:
            free.append(str(port))
        elif why == errno.EADDRINUSE and await _is_ours(host, port):
            taken.append(str(port))
        elif why == errno.EADDRINUSE:
            wrong = True
            yield fail(CHECK, f"another program listens on port {port}", f"set {name}")
        else:
            wrong = True
            message = f"{host}:{port} cannot be listened on: {os.strerror(why)}"
            yield fail(CHECK, message, f"set {name}, or the address to listen on")
    if not wrong:
        said = [f"{', '.join(free)} free"] if free else []
        said += [f"{', '.join(taken)} in use by billing-stream itself"] if taken else []
        yield ok(CHECK, "; ".join(said))


def _why_not(host: str, port: int) -> int | None:
    """The error number of an attempt to listen, None where it is possible."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return None


async def _is_ours(host: str, port: int) -> bool:
    where = "127.0.0.1" if host in ANY_HOST else host
    url = f"http://{f'[{where}]' if ':' in where else where}:{port}{HEALTH_PATH}"
    try:
        async with aiohttp.ClientSession(timeout=ASK) as session, session.get(url) as response:
            body = await response.json()
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return False
    # A worker's answer has an envelope, a projector's has none.
    found = body.get("data", body) if isinstance(body, dict) else None
    return isinstance(found, dict) and found.get("status") == "ok"
