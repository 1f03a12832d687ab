"""Aware UTC times: of records, by their timestamps in ms since the epoch, and of this machine."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

# The years 1000 to 8999, so that deadlines are dates.
TIMESTAMP_MIN, TIMESTAMP_MAX = -30_610_224_000_000, 221_845_391_999_999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """The wall clock of this machine."""
    return datetime.now(UTC)


# With the broker's time, all records of a fetched batch have the same timestamp.
@lru_cache(maxsize=64)
def instant(timestamp_ms: int) -> datetime:
    """The aware UTC time of a record's timestamp (ms since the epoch), or the nearest there is."""
    within = min(max(timestamp_ms, TIMESTAMP_MIN), TIMESTAMP_MAX)
    return _EPOCH + timedelta(milliseconds=within)
