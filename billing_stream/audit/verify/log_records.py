"""What a record is, where it is, and how times in it are read."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from aiokafka.partitioner import murmur2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Record(Protocol):
    """A record as the Kafka client gives it. `timestamp` is in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def micros(text: str) -> int:
    """Microseconds since the epoch of a time with a zone. ValueError when it has none.

    >>> micros("1970-01-01T00:00:01Z")
    1000000
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text!r}")
    return micros_of(moment)


def micros_of(moment: datetime) -> int:
    """Microseconds since the epoch of an aware time."""
    return (moment - _EPOCH) // _MICROSECOND


def duration_us(duration: timedelta) -> int:
    """A duration in microseconds."""
    return duration // _MICROSECOND


def moment_text(moment_us: int | None) -> str | None:
    """A time as people read it."""
    if moment_us is None:
        return None
    return (_EPOCH + timedelta(microseconds=moment_us)).isoformat()


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key by Kafka's default partitioner."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)
