"""A partition's store in RocksDB."""

from collections.abc import Callable, Iterable
from pathlib import Path

from billing_stream.tables.rocks.rocks_database import Budget, Folder
from billing_stream.tables.rocks.rocks_deadlines import RocksDeadlines
from billing_stream.tables.rocks.rocks_rows import RocksRows


class RocksStore:
    """Rows and deadlines in one database. See `tables.store.Store`."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self.rows = RocksRows(path, budget)
        self.deadlines = RocksDeadlines(self.rows)
        self.prefetch = self.rows.prefetch

    @property
    def prefetch_pays(self) -> bool:
        """One read of many rows costs half as much as a read of each."""
        return True

    def without_deadline(self) -> Iterable[str]:
        """Those changed since the last commit: all merchants at once may be too many."""
        return self.rows.without_deadline()

    def restored(self) -> Iterable[str]:
        """Those changed since the last commit."""
        return self.rows.without_deadline()

    def commit(self) -> None:
        """Rows and deadlines in one write."""
        self.deadlines.commit()
        self.rows.commit()

    def close(self) -> None:
        """Let go of memory and files."""
        self.rows.close()


def in_rocksdb(folder: Path, megabytes: int) -> Callable[[int], RocksStore]:
    """Makes stores in a folder of this worker alone, within this much memory in all."""
    budget = Budget(megabytes)
    databases = Folder(folder)
    return lambda partition: RocksStore(databases.partition(partition), budget)
