"""Decoded rows that were used lately, in two generations: as good as exact, and much cheaper."""

from collections.abc import Callable
from typing import Generic, TypeVar

Row = TypeVar("Row")


class Hot(Generic[Row]):
    """The rows used last: `limit()` of them at least, twice as many at most."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._young: dict[str, Row] = {}
        self._old: dict[str, Row] = {}

    def get(self, key: str) -> Row | None:
        """The row, if it is here."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: str, row: Row) -> None:
        """Keep the row; what was not used for long goes."""
        young = self._young
        young[key] = row
        if len(young) >= self._limit():
            self._old = young
            self._young = {}
