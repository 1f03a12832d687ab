"""When so much of an input makes no sense, something else is wrong: stop, and say so.

One bad record is a dead letter. A producer that changed its format, or a topic that is not
what we think, would empty itself into the dead letters.
"""

from msgspec import Struct


class TooManyBadRecords(Exception):
    """A partition whose records mostly make no sense."""


class PoisonLimits(Struct, frozen=True):
    """So many bad records in a row, or this share (percent) of the last `window` records."""

    in_a_row: int = 1_000
    percent: int = 50
    window: int = 10_000


class Poison:
    """Counts the bad records of one partition."""

    def __init__(self, limits: PoisonLimits) -> None:
        self._limits = limits
        self._in_a_row = 0
        self._records = 0
        self._bad = 0

    def note(self, *, bad: bool) -> None:
        """Count a record. Raises TooManyBadRecords above a limit."""
        self._records += 1
        if not bad:
            self._in_a_row = 0
            return
        self._bad += 1
        self._in_a_row += 1
        limits = self._limits
        if self._in_a_row > limits.in_a_row:
            raise TooManyBadRecords(f"{self._in_a_row} records in a row make no sense")
        if self._records >= limits.window:
            if self._bad * 100 > limits.percent * self._records:
                raise TooManyBadRecords(
                    f"{self._bad} of the last {self._records} records make no sense"
                )
            # The older half counts less and less.
            self._records //= 2
            self._bad //= 2
