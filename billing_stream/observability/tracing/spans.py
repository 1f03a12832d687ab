"""What the web and the lanes want of traces, with any implementation."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

TRACEPARENT = "traceparent"
"""The header of W3C Trace Context, over HTTP and on records."""
# Of version 00, the only one there is; what another one may say is not for us.
TRACEPARENT_CHARS = 55

Attributes = Mapping[str, str | int]


class TransactionSpan(Protocol):
    """The span of one transaction, which has traced commands in it."""

    def deciding(
        self, name: str, parent: str, attributes: Attributes
    ) -> AbstractContextManager[str]:
        """A decision; gives the traceparent for its results."""

    def committed(self) -> None:
        """It is committed and applied: record it."""


class Tracing(Protocol):
    """Makes spans. Nothing here raises, or waits for a collector."""

    def serving(
        self, method: str, route: str, headers: Mapping[str, str]
    ) -> AbstractContextManager[Callable[[int], None]]:
        """A request over HTTP; to be given the status of its answer."""

    def sending(self, name: str, attributes: Attributes) -> AbstractContextManager[str]:
        """A command or record on its way to a lane; gives the traceparent to go with it."""

    def passed_on(self) -> Mapping[str, str]:
        """Headers for a request to another worker, within the request served here."""

    def transaction(self, partition: int, parent: str) -> TransactionSpan:
        """A transaction begins; `parent` is the traceparent of its first traced command."""

    def close(self) -> None:
        """Send the rest; waits for some seconds at most."""


def traceparent_of(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    """The traceparent that a record came with, or None."""
    for name, value in headers:
        if name == TRACEPARENT and value is not None and len(value) == TRACEPARENT_CHARS:
            return value.decode() if value.isascii() else None
    return None
