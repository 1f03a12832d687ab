"""When the deadlines of merchants are tried again for which a rule failed."""

from datetime import datetime, timedelta

from msgspec import Struct

FIRST = timedelta(seconds=1)
LONGEST = timedelta(minutes=5)


class _Failing(Struct, frozen=True):
    at: datetime
    delay: timedelta


class Retries:
    """Merchants of one partition with a failed timer: at most one entry for each of them."""

    def __init__(self) -> None:
        self._failing: dict[str, _Failing] = {}

    def failed(self, merchant_id: str, now: datetime) -> datetime:
        """When to try again: after a second, and twice as long each time, up to five minutes."""
        before = self._failing.get(merchant_id)
        delay = FIRST if before is None else min(before.delay * 2, LONGEST)
        self._failing[merchant_id] = _Failing(now + delay, delay)
        return now + delay

    def is_failing(self, merchant_id: str) -> bool:
        """Whether the last timer of this merchant failed."""
        return merchant_id in self._failing

    def succeeded(self, merchant_id: str) -> None:
        """Restart the back-off at the next failure."""
        self._failing.pop(merchant_id, None)

    def not_before(self, merchant_id: str, due: datetime) -> datetime:
        """When to look at a merchant in which something falls due by then."""
        failing = self._failing.get(merchant_id)
        return due if failing is None else max(due, failing.at)
