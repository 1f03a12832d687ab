"""The record that says in which order a transaction took its input records."""

from msgspec import Struct, field


class TakenRange(Struct, frozen=True, gc=False, omit_defaults=True):
    """The records of an input from the offset `from` up to, and without, `to`.

    `topic` is `topic[partition]` for a partition that was added to its topic later. `moved`: the
    position went from one to the other, and no record was taken.
    """

    topic: str
    start: int = field(name="from")
    end: int = field(name="to")
    moved: bool = False


class TransactionOrder(
    Struct, frozen=True, gc=False, omit_defaults=True, tag_field="kind", tag="transaction_order"
):
    """`billing.journal.v1`: the order in which a transaction took its input records.

    The entries after it, up to the next order, were decided after them. `number` counts the orders
    of the partition from 1. `unordered_until` are positions: records before them that no order
    names were taken by a release that writes none. `rules` is the version of the rules by which
    they were decided.
    """

    number: int
    ranges: list[TakenRange]
    unordered_until: dict[str, int] | None = None
    rules: int = 1
