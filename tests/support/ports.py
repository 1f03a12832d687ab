"""Ports for servers that tests start.

Each test process walks through ports of its own, so two never choose the same port between
looking and listening. They lie outside what `dev` chooses from and outgoing connections use.
"""

import itertools
import os
from collections.abc import Iterator
from functools import cache

from billing_stream.dev.server_process import is_free

_FIRST, _PER_PROCESS, _PROCESSES = 11_000, 1_000, 9


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, another one each time."""
    return next(port for port in _walk() if is_free(port))


@cache
def _walk() -> Iterator[int]:
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
    first = _FIRST + process * _PER_PROCESS
    # A run of its own starts elsewhere, as two runs may share the machine.
    ports = [*range(first, first + _PER_PROCESS)]
    start = os.getpid() % _PER_PROCESS
    return itertools.cycle(ports[start:] + ports[:start])
