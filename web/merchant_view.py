"""What a merchant may see of an event: what it says of the merchant, and who acted by kind only.

Names of operators, their reasons, topics and offsets are for operators. Fields are let through by
name, so that what an event gains is internal until it is declared.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, get_args

from billing_stream.domain.outcomes import CreditsAdjusted, EventData, TrialExtended
from billing_stream.records import topics
from billing_stream.records.record_ref import RecordRef


class Origin(StrEnum):
    """What caused an event: a request of the merchant's, a webhook, time, an operator, the rest."""

    HTTP = "http"
    WEBHOOK = "webhook"
    TIMER = "timer"
    OPERATOR = "operator"
    SYSTEM = "system"


_FIELDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        topics.event_type(event.kind): frozenset(event.__struct_fields__)
        - getattr(event, "internal", frozenset())
        for event in get_args(EventData)
    }
)
# What only operators do, whatever way their command came.
_BY_OPERATORS = frozenset(
    topics.event_type(event.kind) for event in (CreditsAdjusted, TrialExtended)
)
_ORIGINS: Mapping[str, Origin] = MappingProxyType({origin.value: origin for origin in Origin})


def shown(event_type: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an event's data that its merchant may see.

    >>> shown("evt.billing.credits.adjusted.v1", {"credits": 5, "reason": "fraud?"})
    {'credits': 5}
    """
    fields = _FIELDS.get(event_type, frozenset({"merchant_id"}))
    return {name: value for name, value in data.items() if name in fields}


def origin_of(cause: str | None, event_type: str) -> Origin:
    """Who acted, by kind. `cause` is as in the event's header: a record, or an origin.

    >>> [origin_of(cause, "").value for cause in ("operator:olga", "timer", "x[3]@17", "other")]
    ['operator', 'timer', 'system', 'system']
    """
    if event_type in _BY_OPERATORS or cause == "cli":
        return Origin.OPERATOR
    ref = RecordRef.parse_or_none(cause)
    if ref is not None:
        return Origin.WEBHOOK if ref.topic.endswith(topics.WEBHOOKS) else Origin.SYSTEM
    return _ORIGINS.get((cause or "").partition(":")[0], Origin.SYSTEM)
