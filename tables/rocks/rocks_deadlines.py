"""When something falls due, by merchant, as ordered keys of the partition's database."""

from collections.abc import Iterator
from datetime import datetime
from itertools import chain

from billing_stream.tables.rocks import keys
from billing_stream.tables.rocks.rocks_rows import RocksRows
from billing_stream.tables.rocks.stored_merchant import NEVER


class RocksDeadlines:
    """As `tables.deadlines.Deadlines`; what changes is written with the rows, at `commit`."""

    def __init__(self, rows: RocksRows) -> None:
        self._rows = rows
        # Set and not committed: in no key of the database yet.
        self._set: dict[str, int] = {}
        # Taken, or set earlier, and not committed: in a key that is void.
        self._void: set[bytes] = set()
        # None: not known, to be looked up.
        self._first: int | None = None

    def __len__(self) -> int:
        return sum(1 for _ in self._stored()) + len(self._set)

    def set(self, key: str, due: datetime) -> None:
        """Have `key` taken at `due`, or earlier if it was to be earlier anyway."""
        wanted = keys.micros(due)
        head = self._rows.head(key)
        if head is not None and head.due <= wanted:
            return
        head = self._rows.change(key)
        self._drop(key, head.due)
        head.due = self._set[key] = wanted
        if self._first is not None:
            self._first = min(self._first, wanted)

    def first(self) -> datetime | None:
        """The earliest deadline, or None."""
        if self._first is None:
            stored = next(self._stored(), None)
            first = NEVER if stored is None else keys.number_of(stored, 1)
            self._first = min(chain((first,), self._set.values()))
        return None if self._first == NEVER else keys.moment(self._first)

    def count(self, now: datetime, limit: int) -> int:
        """How many keys are due at or before `now`; `limit` at most, which bounds the work."""
        until = keys.micros(now)
        found = sum(1 for when in self._set.values() if when <= until)
        for stored in self._stored():
            if found >= limit or keys.number_of(stored, 1) > until:
                break
            found += 1
        return min(found, limit)

    def take(self, now: datetime, limit: int) -> Iterator[str]:
        """Take the keys due at or before `now`, earliest first, `limit` at most."""
        until = keys.micros(now)
        due = [(when, key) for key, when in self._set.items() if when <= until]
        for number, stored in enumerate(self._stored()):
            when = keys.number_of(stored, 1)
            if when > until or number == limit:
                break
            due.append((when, stored[1 + keys.TIME_BYTES :].decode()))
        for when, key in sorted(due)[:limit]:
            self._drop(key, when)
            self._rows.change(key).due = NEVER
            self._first = None
            yield key

    def commit(self) -> None:
        """Hand all changes to the database; they are written with the rows."""
        db = self._rows.db
        for stored in self._void:
            db.delete(stored)
        for key, due in self._set.items():
            db.put(_key(due, key), b"")
        self._set.clear()
        self._void.clear()

    def _stored(self) -> Iterator[bytes]:
        return (key for key in self._rows.db.keys(keys.DUE) if key not in self._void)

    def _drop(self, key: str, due: int) -> None:
        if self._set.pop(key, None) is None and due != NEVER:
            self._void.add(_key(due, key))


def _key(due: int, key: str) -> bytes:
    return keys.DUE + keys.ordered(due) + key.encode()
