"""Decoded rows that were used lately, in two generations: as good as exact, and much cheaper."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

Row = TypeVar("Row")


class RowCache(Generic[Row]):
    """The rows used last: `limit()` of them at least.

    At most twice as many, and what was put at once: the rows of one transaction.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._young: dict[str, Row] = {}
        self._old: dict[str, Row] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: str) -> Row | None:
        """The row, if it is here."""
        found = self._young.get(key)
        if found is None and self._old:
            found = self._old.get(key)
            if found is not None:
                self._young[key] = found
        return found

    def put(self, key: str, row: Row) -> None:
        """Keep the row; what was not used for long goes."""
        self._young[key] = row
        self._age()

    def update(self, rows: Mapping[str, Row]) -> None:
        """Keep these rows."""
        self._young.update(rows)
        self._age()

    def _age(self) -> None:
        if len(self._young) >= self._limit():
            self._old = self._young
            self._young = {}
