"""The order in which a lane takes its input records, in the transaction of their effects.

Each transaction that takes records writes one record to the journal, before the entries of its
requests: the journal, read in order, is the order of all decisions of a partition.
"""

from collections.abc import Mapping

from msgspec import Struct

from billing_stream.domain.policy import RULES
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.records.schemas import encode
from billing_stream.records.transaction_order import TakenRange, TransactionOrder


class OrderMark(Struct, frozen=True, gc=False):
    """How far the order is written, in JSON in the changelog.

    `number` is that of the last order, `read` the sum of all positions after it. Where they add up
    to something else, a release that writes no order was the owner in between.
    """

    number: int = 0
    read: int = 0


class StagedOrder:
    """The order of one transaction; `positions` are those before it."""

    def __init__(self, before: OrderMark, positions: Mapping[str, int]) -> None:
        self._before = before
        self._positions = positions
        self._ranges: list[TakenRange] = []

    def note(self, name: str, start: int, end: int, *, moved: bool = False) -> None:
        """The position of an input goes from `start` to `end`, because its records are taken."""
        if start == end:
            return
        last = self._ranges[-1] if self._ranges else None
        if last is not None and (last.topic, last.end, last.moved) == (name, start, moved):
            start = self._ranges.pop().start
        self._ranges.append(TakenRange(name, start, end, moved))

    def mark(self, reached: Mapping[str, int]) -> OrderMark | None:
        """How far the order is written when these positions are reached; None where it stays."""
        if not self._ranges:
            return None
        read = sum({**self._positions, **reached}.values())
        return OrderMark(self._before.number + 1, read)

    def records(self, journal: str) -> list[Outgoing]:
        """The record for the topic `journal`, before the entries of the transaction."""
        if not self._ranges:
            return []
        complete = sum(self._positions.values()) == self._before.read
        unordered = None if complete else dict(self._positions)
        order = TransactionOrder(self._before.number + 1, self._ranges, unordered, RULES)
        return [Outgoing(journal, None, encode(order))]
