"""What the engine reports to an observer: once per transaction and per restore, never per record.

An observer must not raise and must not wait: it is called by the lane, after the commit.
"""

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from billing_stream.engine.partition_processor import Outgoing, Request, Stage

S = TypeVar("S", bound=Stage)


class InputCount(Struct, frozen=True, gc=False):
    """How many records of an input topic a transaction took."""

    topic: str
    records: int


class Transaction(Struct, Generic[S], frozen=True, gc=False):
    """A lane's part of a transaction. `seconds` is from its first decision to its last row.

    `replies` are those to `requests`, in their order; `written` are the records in it, which
    may be none when nothing changed and no client asked.
    """

    partition: int
    inputs: Sequence[InputCount]
    requests: Sequence[Request]
    replies: Sequence[Any]
    written: Sequence[Outgoing]
    stage: S
    seconds: float


class Observer(Protocol):
    """Is notified of what happened; it changes nothing."""

    def committed(self, transaction: Transaction[Any]) -> None:
        """A lane has committed and applied a transaction."""

    def restored(self, partitions: Sequence[int], records: int, seconds: float) -> None:
        """These partitions were restored from `records` changelog records."""
