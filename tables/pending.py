"""The pending purchases of a merchant, by when they expire."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from datetime import datetime

Deadline = tuple[datetime, str]


class Pending:
    """Deadlines (expires_at, purchase) in order.

    A list that forgets its first entries from time to time only: of 250,000 that expire one after
    the other, each would move all the others.
    """

    __slots__ = ("_entries", "_start")

    def __init__(self) -> None:
        self._entries: list[Deadline] = []
        self._start = 0

    def __len__(self) -> int:
        return len(self._entries) - self._start

    def __iter__(self) -> Iterator[Deadline]:
        entries = self._entries
        return (entries[index] for index in range(self._start, len(entries)))

    def first(self) -> Deadline:
        """The soonest. Raises IndexError where it is empty."""
        return self._entries[self._start]

    def add(self, deadline: Deadline) -> None:
        """Add one."""
        insort(self._entries, deadline, lo=self._start)

    def drop(self, deadline: Deadline) -> None:
        """Take out one that is in it."""
        index = bisect_left(self._entries, deadline, lo=self._start)
        if index != self._start:
            del self._entries[index]
            return
        self._start += 1
        if self._start * 2 > len(self._entries):
            del self._entries[: self._start]
            self._start = 0
