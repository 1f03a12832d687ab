"""The stored and sent form of an event: the envelope of its record, with `type` and `sequence`."""

from datetime import datetime

import msgspec
from msgspec import Raw, Struct

from billing_stream.projector.projected_records import EventRow, Record, Records

ID_CHARACTERS_MAX = 200

_fields = msgspec.json.Decoder(dict[str, Raw])


class StoredEvent(Struct, frozen=True, gc=False):
    """An event of a merchant; `body` is JSON, as it is signed and sent."""

    event_id: str
    merchant_id: str
    sequence: int
    event_type: str
    at: datetime
    body: bytes


class InvalidEvent(Exception):
    """A record of an event topic that no worker should have written; the text is why."""


def stored_event(records: Records, record: Record) -> StoredEvent:
    """The event in a record. Raises UnprojectableRecord and InvalidEvent."""
    row = records.decode(record)
    if not isinstance(row, EventRow):
        raise InvalidEvent("it is not an event")
    if max(len(row.event_id), len(row.merchant_id)) > ID_CHARACTERS_MAX:
        raise InvalidEvent(f"an id is longer than {ID_CHARACTERS_MAX} characters")
    if not 0 < row.sequence < 1 << 63:
        raise InvalidEvent("its sequence is not a positive number of 64 bits")
    fields = _fields.decode(record.value or b"")
    # `type`, `timestamp` and `data` are what Standard Webhooks recommends for a payload.
    body = {"type": row.event_type, "sequence": row.sequence, **fields}
    return StoredEvent(
        row.event_id,
        row.merchant_id,
        row.sequence,
        row.event_type,
        row.at,
        msgspec.json.encode(body),
    )
