"""Ports of this process's own: nobody listens on some of them for a while, and all stay taken."""

from billing_stream.dev.server_process import free_port

_taken: set[int] = set()


def new_port() -> int:
    """A free port that was never given before."""
    port = free_port(_taken)
    _taken.add(port)
    return port
