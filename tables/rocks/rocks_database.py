"""Databases of this worker: one per partition, under one bound on their memory."""

import fcntl
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from billing_stream.errors import SettingsError
from billing_stream.tables.rocks import keys

logger = logging.getLogger(__name__)

MIB = 1 << 20
# Of the budget: decoded rows take a part, RocksDB's cache the rest, and what was written and
# is not yet in files counts in that cache too.
HOT_SHARE = 0.25
WRITTEN_SHARE = 0.25
# A decoded merchant or purchase with its texts; measured, and rounded up.
ROW_BYTES = 1_000
WRITE_BUFFER_BYTES = 16 * MIB
# Files held open per partition: of 64 MiB each.
OPEN_FILES_MAX = 100
# Keys looked for and not there cost no read.
BLOOM_BITS = 10


class Budget:
    """What all databases of a worker may hold in memory, in bytes."""

    def __init__(self, megabytes: int) -> None:
        total = megabytes * MIB
        self._hot_rows = int(total * HOT_SHARE) // ROW_BYTES
        self.cache = Cache(int(total * (1 - HOT_SHARE)))
        self.written = WriteBufferManager.new_write_buffer_manager_with_cache(
            int(total * WRITTEN_SHARE), False, self.cache
        )
        self.databases = 0

    def hot_rows(self) -> int:
        """Decoded rows of one kind that one database may keep."""
        # Two kinds, and two generations of each.
        return max(16, self._hot_rows // (4 * max(1, self.databases)))


class Folder:
    """The folder of one worker's databases, which no other process may use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None

    def partition(self, number: int) -> Path:
        """The folder of a partition. Raises SettingsError when another process has the folder."""
        if self._lock is None:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("wb")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                lock.close()
                raise SettingsError(
                    f"{self.path} is in use by another worker: give each a BILLING_DATA_DIR "
                    "or a BILLING_API_EXTERNAL_PORT of its own"
                ) from error
            self._lock = lock
        return self.path / str(number)


class Database:
    """One partition's keys and values; written whole or not at all, on one thread."""

    def __init__(self, path: Path, budget: Budget) -> None:
        shutil.rmtree(path, ignore_errors=True)
        self._path = path
        self._budget = budget
        self._closed = False
        # Its types do not know that in raw mode all is bytes.
        self._db: Any = Rdict(str(path), _options(budget))
        self._no_log = _no_log()
        # Called for every row: the library's own, without a call of ours around them.
        self.get: Callable[[bytes], bytes | None] = self._db.get
        self._begin()
        budget.databases += 1

    def get_many(self, wanted: list[bytes]) -> list[bytes | None]:
        """The value of each key in turn, in one call, while other threads may run."""
        found: list[bytes | None] = self._db.get(wanted)
        return found

    def write(self) -> None:
        """Write what was put and deleted since the last time, at once."""
        if not self._batch.is_empty():
            self._db.write(self._batch, self._no_log)
            self._begin()

    def keys(self, prefix: bytes, start: bytes | None = None) -> Iterator[bytes]:
        """The keys that begin with `prefix`, ascending; from `start` on, where it is given."""
        found = self._db.iter()
        found.seek(start or prefix)
        return _these(found, prefix, found.next)

    def keys_down(self, prefix: bytes) -> Iterator[bytes]:
        """The keys that begin with `prefix`, descending."""
        found = self._db.iter()
        found.seek_for_prev(keys.after(prefix))
        return _these(found, prefix, found.prev)

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin with `prefix`, and their values, ascending."""
        found = self._db.iter()
        found.seek(prefix)
        return ((key, found.value()) for key in _these(found, prefix, found.next))

    def close(self) -> None:
        """Let go of memory and files; again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._budget.databases -= 1
        self._db.close()
        shutil.rmtree(self._path, ignore_errors=True)

    def _begin(self) -> None:
        self._batch = WriteBatch(raw_mode=True)
        self.put = self._batch.put
        self.delete = self._batch.delete


def _these(found: Any, prefix: bytes, move: Callable[[], None]) -> Iterator[bytes]:
    """Keys from where `found` stands, while they begin so.

    The library's bounds end an iteration too early at times, and its own iterators end at an
    error as if there were nothing more.
    """
    while found.valid():
        key = found.key()
        if not key.startswith(prefix):
            return
        yield key
        move()
    found.status()


def _no_log() -> Any:
    """What is lost here is read from the changelogs again."""
    options: Any = WriteOptions()
    options.disable_wal = True
    return options


def _options(budget: Budget) -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(budget.cache)
    # Filters and indexes count as well, and in parts: whole, they alone could fill the cache.
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
    blocks.set_partition_filters(True)
    blocks.set_bloom_filter(BLOOM_BITS, False)
    blocks.set_format_version(5)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_manager(budget.written)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(4)
    options.set_max_background_jobs(2)
    # One thread writes: without the care for others it writes faster.
    options.set_allow_concurrent_memtable_write(False)
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_max_open_files(OPEN_FILES_MAX)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(MIB)
    options.set_stats_dump_period_sec(0)
    return options
