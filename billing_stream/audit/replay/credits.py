"""Which events change a merchant's credits, and by how much."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from billing_stream.audit.replay.core.records import RecordedEvent
from billing_stream.records import topics

# The credits of a trial are announced and no part of the balance.
SIGNS: Mapping[str, int] = MappingProxyType(
    {topics.event_type(kind): sign for kind, sign in topics.CREDITS_SIGN.items()}
)


def credits_of(event: RecordedEvent) -> int:
    """By how many credits the event changed the balance."""
    return signed(event.type, event.data)


def signed(event_type: str, data: Mapping[str, Any]) -> int:
    """As `credits_of`, of an event's type and data."""
    sign = SIGNS.get(event_type, 0)
    return sign * int(data["credits"]) if sign else 0


def balance_of(row: Mapping[str, Any] | None) -> int:
    """The balance that a merchant's row (of its changelog) says."""
    row = row or {}
    return int(row.get("total_credits_purchased", 0)) + int(row.get("credits_adjusted", 0))
