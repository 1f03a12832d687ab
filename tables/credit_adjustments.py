"""`credit_adjustments`: one `Adjustment` per adjustment, by its id."""

from typing import Any

import faust

from billing_stream import topics as names
from billing_stream.topics import Topics
from tables.define import OwnedRows, define


def register(
    app: faust.App, topics: Topics, partitions: int, owned: OwnedRows
) -> "faust.Table[Any, Any]":
    """Declare the table."""
    return define(
        app,
        names.CREDIT_ADJUSTMENTS,
        topics=topics,
        partitions=partitions,
        owned=owned,
        rows=lambda partition: partition.adjustments,
    )
