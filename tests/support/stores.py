"""Both kinds of stores, for tests that hold for either."""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from billing_stream.tables.rocks.rocks_database import Budget
from billing_stream.tables.rocks.rocks_store import RocksStore
from billing_stream.tables.store import MemoryStore, Store

KINDS = ("memory", "rocksdb")


class Stores:
    """Makes empty stores of one kind, each with a folder of its own; `close` closes them all."""

    def __init__(self, kind: str, folder: Path, megabytes: int = 16) -> None:
        self.kind = kind
        self._folder = folder
        self._numbers = itertools.count()
        self._budget = Budget(megabytes)
        self._open: list[Store] = []

    def new(self) -> Store:
        """An empty store."""
        if self.kind == "memory":
            return MemoryStore()
        store = RocksStore(self._folder / str(next(self._numbers)), self._budget)
        self._open.append(store)
        return store

    def of_partition(self, _partition: int) -> Store:
        """The store of a partition, as a processor wants it."""
        return self.new()

    def close(self) -> None:
        """Close those that `new` made."""
        while self._open:
            self._open.pop().close()


@contextmanager
def stores(kind: str) -> Iterator[Stores]:
    """Stores in a folder that is deleted; in memory where there is such a folder."""
    # A database writes its files through to the disk when it is opened, which is slow.
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="billing-stream-test-", dir=where) as folder:
        made = Stores(kind, Path(folder))
        try:
            yield made
        finally:
            made.close()
