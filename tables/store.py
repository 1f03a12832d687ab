"""A partition's committed rows and deadlines together: in memory, or in RocksDB."""

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from billing_stream.tables.committed import CommittedRows, Schedule
from billing_stream.tables.deadlines import Deadlines
from billing_stream.tables.rows import PartitionRows


class Store(Protocol):
    """What a partition's processor keeps; empty when it is made, filled by restore."""

    @property
    def rows(self) -> CommittedRows:
        """The committed rows."""

    @property
    def deadlines(self) -> Schedule:
        """What falls due when, by merchant."""

    @property
    def prefetch_pays(self) -> bool:
        """Whether reads are dear enough to be told of before: see `prefetch`."""

    def prefetch(
        self, merchants: Collection[str], charges: Collection[str], purchases: Collection[str]
    ) -> None:
        """These merchants, charges (`merchant/charge`) and purchases will be read soon."""

    def without_deadline(self) -> Iterable[str]:
        """While restoring: the merchants whose deadlines are to be set before `commit`."""

    def restored(self) -> Iterable[str]:
        """After restoring: the merchants whose deadlines are not set yet."""

    def commit(self) -> None:
        """Keep changed rows and deadlines, all of them or none."""

    def close(self) -> None:
        """The partition leaves: let go of everything."""


NewStore = Callable[[int], Store]
"""Makes the store of a partition."""


class MemoryStore:
    """Rows and deadlines in memory. See `Store`."""

    def __init__(self) -> None:
        self.rows = PartitionRows()
        self.deadlines = Deadlines()

    @property
    def prefetch_pays(self) -> bool:
        """All is at hand."""
        return False

    def prefetch(
        self, merchants: Collection[str], charges: Collection[str], purchases: Collection[str]
    ) -> None:
        """Nothing to do."""

    def without_deadline(self) -> Iterable[str]:
        """None: each is scheduled once, when all rows are there."""
        return ()

    def restored(self) -> Iterable[str]:
        """All merchants."""
        return self.rows.merchants

    def commit(self) -> None:
        """Nothing to do: what was put is there."""

    def close(self) -> None:
        """Nothing to do: memory goes with the object."""


def in_memory(_partition: int) -> MemoryStore:
    """An empty store in memory."""
    return MemoryStore()
