"""A server that accepts connections and never answers, as a frozen broker does."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_server() -> Iterator[str]:
    """Its host:port. The kernel accepts what nobody takes from the queue."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(128)
        yield f"127.0.0.1:{server.getsockname()[1]}"
