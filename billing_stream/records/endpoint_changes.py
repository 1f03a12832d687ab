"""Events about endpoints of outgoing webhooks."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from billing_stream.domain.commands import Text
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Instant
from billing_stream.records.schemas import SOURCE_SERVICE, correlation_of, encode
from billing_stream.records.topics import ENDPOINT_CHANGED

# All are in one partition: their order is that of the changes.
PARTITION = 0


class EndpointState(StrEnum):
    """What an endpoint is since a change."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    REMOVED = "removed"


class EndpointChanged(Struct, frozen=True, kw_only=True):
    """An endpoint of outgoing webhooks was added, disabled, enabled or removed.

    `reason`: why it is disabled. `last_error`: of the last request that failed, if none succeeded
    since. `queued` events waited for it then. `url` has neither path nor query: they may be secret.
    The event may be written twice, with one `event_id`.
    """

    endpoint_id: Text
    state: EndpointState
    url: str
    reason: str | None = None
    last_error: str | None = None
    queued: Annotated[int, Meta(ge=0)] = 0


class EndpointEvent(Struct, frozen=True):
    """The event in its envelope; `timestamp` is when the endpoint was changed."""

    event_id: str
    event_type: str
    correlation_id: str
    source_service: str
    timestamp: Instant
    data: EndpointChanged


_decode = msgspec.json.Decoder(EndpointEvent).decode


def endpoint_event(change: EndpointChanged, at: datetime) -> bytes:
    """A change in its envelope. Of one endpoint no two are at the same time."""
    event_id = derived_id(ENDPOINT_CHANGED, change.endpoint_id, at.isoformat())
    correlation_id = correlation_of(event_id)
    return encode(
        EndpointEvent(event_id, ENDPOINT_CHANGED, correlation_id, SOURCE_SERVICE, at, change)
    )


def decode_endpoint_event(value: bytes) -> EndpointEvent:
    """The event of a record. Raises msgspec.DecodeError."""
    return _decode(value)
