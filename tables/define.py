"""What the table definitions have in common: a Faust table over rows of the lanes."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import faust

from billing_stream.engine.tables import lane_table
from billing_stream.topics import Topics
from tables.committed import CommittedRows


class OwnedRows(Protocol):
    """Gives the committed rows of every partition owned here."""

    def __call__(self) -> list[CommittedRows]:
        """One `CommittedRows` per owned partition."""


def define(
    app: faust.App,
    name: str,
    *,
    topics: Topics,
    partitions: int,
    owned: OwnedRows,
    rows: Callable[[CommittedRows], Mapping[str, Any]],
) -> "faust.Table[Any, Any]":
    """Declare the table `name` with its changelog."""
    return lane_table(
        app,
        name,
        changelog=topics.changelog(name),
        partitions=partitions,
        find=lambda: iter([rows(partition) for partition in owned()]),
    )
