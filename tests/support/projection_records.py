"""Records as workers write them, for the projector to read: rows and events of two merchants."""

import json
import uuid
from typing import Any

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from tests.support.projection import PARTITIONS

MOMENT = "2026-01-01T00:00:00Z"
_IDS = [str(uuid.UUID(int=n << 64 | 1, version=4)) for n in range(1, 50)]
MERCHANT = next(m for m in _IDS if partition_of(m, PARTITIONS) == 0)
OTHER = next(m for m in _IDS if partition_of(m, PARTITIONS) == 1)

Headers = list[tuple[str, bytes | None]]


def partition_of_merchant(merchant: str) -> int:
    """The partition of its records."""
    return partition_of(merchant, PARTITIONS)


def event(merchant: str, number: int, kind: str, **data: Any) -> tuple[bytes, Headers]:
    """The value and headers of an event with this sequence."""
    envelope = {
        "event_id": str(uuid.uuid5(uuid.UUID(merchant), str(number))),
        "event_type": names.event_type(kind),
        "correlation_id": f"c-{number}",
        "timestamp": MOMENT,
        "data": {"merchant_id": merchant, **data},
    }
    headers: Headers = [("sequence", b"%d" % number), ("cause", b"cli")]
    return json.dumps(envelope).encode(), headers


def adjusted(merchant: str, number: int) -> tuple[bytes, Headers]:
    """An adjustment of 100 credits."""
    key = str(uuid.uuid5(uuid.UUID(merchant), f"adjustment {number}"))
    return event(
        merchant, number, "credits.adjusted", adjustment_id=key, credits=100, reason="INC-1"
    )
