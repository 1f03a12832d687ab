"""When too many records of an input are invalid, something else is wrong: stop, and report it.

One invalid record is a dead letter. A producer that changed its format, or a topic that is not
what we think, would empty itself into the dead letters.
"""

from msgspec import Struct


class TooManyInvalidRecords(Exception):
    """Most records of an input are invalid."""


class PoisonLimits(Struct, frozen=True):
    """`in_a_row` invalid records, or this share (percent) of the last `window` records."""

    in_a_row: int = 1_000
    percent: int = 50
    window: int = 10_000


class Poison:
    """Counts the invalid records of one input of one partition."""

    def __init__(self, limits: PoisonLimits) -> None:
        self._limits = limits
        self._in_a_row = 0
        self._records = 0
        self._invalid = 0

    def note_invalid(self, valid: int) -> None:
        """Count an invalid record, and the valid ones since the last that was invalid.

        Raises TooManyInvalidRecords above a limit.
        """
        self._records += valid + 1
        self._invalid += 1
        self._in_a_row = 1 if valid else self._in_a_row + 1
        limits = self._limits
        if self._in_a_row > limits.in_a_row:
            raise TooManyInvalidRecords(f"{self._in_a_row} invalid records in a row")
        if self._records >= limits.window:
            if self._invalid * 100 > limits.percent * self._records:
                raise TooManyInvalidRecords(
                    f"{self._invalid} of the last {self._records} records are invalid"
                )
            # The older half counts less and less.
            self._records //= 2
            self._invalid //= 2
