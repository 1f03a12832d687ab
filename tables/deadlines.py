"""When something falls due, by merchant: a heap, so that a look costs nothing."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from heapq import heappop, heappush

from msgspec import Struct

# When a merchant is looked at again for which a rule failed: twice as long each time.
FIRST_RETRY = timedelta(seconds=1)
LAST_RETRY = timedelta(minutes=5)


class _Failing(Struct, frozen=True):
    at: datetime
    delay: timedelta


class Deadlines:
    """At most one live deadline per key; the earliest given wins until it is taken.

    After a failure a key is not taken before its next try.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, str]] = []
        self._live: dict[str, datetime] = {}
        self._failing: dict[str, _Failing] = {}

    def __len__(self) -> int:
        return len(self._live)

    def set(self, key: str, due: datetime) -> None:
        """Have `key` taken at `due`, or earlier if it was to be earlier anyway."""
        failing = self._failing.get(key)
        if failing is not None:
            due = max(due, failing.at)
        live = self._live.get(key)
        if live is None or due < live:
            self._live[key] = due
            heappush(self._heap, (due, key))

    def first(self) -> datetime | None:
        """The earliest deadline, or None."""
        heap, live = self._heap, self._live
        while heap and live.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def count(self, now: datetime, limit: int) -> int:
        """How many keys are due at or before `now`; `limit` at most, which bounds the work."""
        heap, live = self._heap, self._live
        found, places = 0, [0]
        # Down the heap, and past what is not due: all below it is later still.
        while places and found < limit:
            place = places.pop()
            if place < len(heap) and heap[place][0] <= now:
                due, key = heap[place]
                found += live.get(key) == due
                places += (2 * place + 1, 2 * place + 2)
        return found

    def take(self, now: datetime, limit: int) -> Iterator[str]:
        """Take the keys due at or before `now`, earliest first, `limit` at most."""
        for _ in range(limit):
            due = self.first()
            if due is None or due > now:
                return
            key = heappop(self._heap)[1]
            del self._live[key]
            yield key

    def failed(self, key: str, now: datetime) -> datetime:
        """When to try again: after a second, and twice as long each time, up to five minutes."""
        before = self._failing.get(key)
        delay = FIRST_RETRY if before is None else min(before.delay * 2, LAST_RETRY)
        self._failing[key] = _Failing(now + delay, delay)
        return now + delay

    def is_failing(self, key: str) -> bool:
        """Whether the last deadline of this key failed."""
        return key in self._failing

    def succeeded(self, key: str) -> None:
        """Begin with the first delay at the next failure."""
        self._failing.pop(key, None)
