"""Bytes to commands, events to bytes. The only place that knows how records look.

Values are JSON: the bare payload, or the payload as `data` of the envelope. Fields that a
producer adds are ignored, and so is a byte order mark.
"""

from datetime import datetime
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from billing_stream.domain.commands import Command, UpdateCharge
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Instant
from billing_stream.domain.outcomes import Event, EventData, ShopRegistered, TrialClaimed
from billing_stream.errors import InvalidRecord
from billing_stream.records import topics
from billing_stream.records.charge_records import ChargeRecord
from billing_stream.records.commands_in import RETURNS, CommandIn, amount_of, command_of, returned
from billing_stream.records.foreign_formats import (
    REPLACEMENT,
    foreign_format,
    not_utf_8,
    without_halves,
)
from billing_stream.records.forwarding import forwarded_from, forwarded_topic, redriven_from
from billing_stream.records.installations import installation
from billing_stream.records.operator_commands import BY_OPERATORS, OperatorCommand
from billing_stream.records.payloads import PurchaseUpdated
from billing_stream.records.record_ref import record_ref
from billing_stream.records.shop_records import shop_record_of
from billing_stream.records.timestamps import TIMESTAMP_MAX, TIMESTAMP_MIN
from billing_stream.records.unreadable import Headers as Headers
from billing_stream.records.unreadable import headers_bytes, why_unreadable

SOURCE_SERVICE = "billing-service"
# With the largest value, a forwarded record must still fit into the topic of commands.
KEY_AND_HEADERS_MAX = 32_768

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class InputRecord(Protocol):
    """A record as the Kafka client gives it. `timestamp` is in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


Payload = Command | ShopRegistered | TrialClaimed | OperatorCommand | ChargeRecord


class DecodedRecord(Struct, frozen=True, gc=False):
    """What an input record says, and the correlation id it came with.

    `redriven_from` names the dead letter that it is a copy of.
    """

    payload: Payload
    correlation_id: str | None
    redriven_from: str | None = None


class _Envelope(Struct, frozen=True, gc=False):
    data: Raw | UnsetType = UNSET
    merchant_id: Raw | UnsetType = UNSET
    correlation_id: Raw | UnsetType = UNSET


class _EventEnvelope(Struct, frozen=True, gc=False):
    event_id: str
    event_type: str
    correlation_id: str
    source_service: str
    timestamp: datetime
    data: EventData


class JournalEntry(Struct, frozen=True, kw_only=True, gc=False):
    """`billing.journal.v1`: a command that came from no topic, as it was decided.

    `origin` is http, timer, cli or operator:<who>. `positions` are the offsets up to which the
    lane had read its inputs when it decided: inputs and journal together are the whole history.
    """

    command: Command
    origin: str
    correlation_id: str
    now: Instant
    positions: dict[str, int]


_encoder = msgspec.json.Encoder()
encode = _encoder.encode

_envelope = msgspec.json.Decoder(_Envelope)
_text = msgspec.json.Decoder(str)
_purchase_updated = msgspec.json.Decoder(PurchaseUpdated)
_command: msgspec.json.Decoder[Any] = msgspec.json.Decoder(CommandIn)
_operator_command: msgspec.json.Decoder[OperatorCommand] = msgspec.json.Decoder(OperatorCommand)
_charge_record: msgspec.json.Decoder[ChargeRecord] = msgspec.json.Decoder(ChargeRecord)


def decode(topic: str, record: InputRecord, max_bytes: int) -> DecodedRecord:
    """What the record says, read as one of `topic` (its name without a prefix).

    Raises InvalidRecord, with the reason, for all that is invalid.
    """
    value = record.value
    size = len(record.key or b"")
    if record.headers:
        why = why_unreadable(record.headers)
        if why is not None:
            raise InvalidRecord(why)
        size += headers_bytes(record.headers)
    if size > KEY_AND_HEADERS_MAX:
        raise InvalidRecord(f"key and headers have {size} bytes, more than {KEY_AND_HEADERS_MAX}")
    if value is None:
        raise InvalidRecord("the value is null")
    if len(value) > max_bytes:
        raise InvalidRecord(f"the value has {len(value)} bytes, more than {max_bytes}")
    if not TIMESTAMP_MIN <= record.timestamp <= TIMESTAMP_MAX:
        raise InvalidRecord(f"the timestamp {record.timestamp} is not in milliseconds")
    came_from = letter = None
    if topic == topics.COMMANDS and record.headers:
        letter = redriven_from(record.headers)
        came_from = letter or forwarded_from(record.headers)
        topic = forwarded_topic(record.headers) or topic
        if topic == topics.OPERATOR_COMMANDS:
            # Not everyone who may write commands may write those of operators.
            raise InvalidRecord("commands of operators are not forwarded")
        if topic == topics.CHARGES:
            raise InvalidRecord("records of charges are not forwarded")
    try:
        payload, envelope, was_cut = _unpack(value)
        command = _decode_payload(topic, payload, record)
        if was_cut:
            _require_without(command, REPLACEMENT, "half of a character")
        # Seldom, so that the check proper is: a NUL cannot stand in JSON but like this.
        if b"\\u0000" in value:
            _require_without(command, "\0", "a NUL character")
    except RecursionError:
        raise InvalidRecord("the JSON is nested too deep") from None
    except msgspec.DecodeError as error:
        raise InvalidRecord(foreign_format(value) or str(error)) from None
    except UnicodeDecodeError as error:
        raise InvalidRecord(foreign_format(value) or not_utf_8(error)) from None
    correlation_id = _text_of(envelope.correlation_id)
    if not 0 < len(correlation_id or "") <= 255:
        # Of the record as it was sent: its copy may be written more than once.
        correlation_id = correlation_of(came_from) if came_from else None
    return DecodedRecord(command, correlation_id, letter)


def _decode_payload(topic: str, payload: bytes | Raw, record: InputRecord) -> Payload:
    came_from = record_ref(record.topic, record.partition, record.offset)
    if topic == topics.PURCHASE_UPDATED:
        updated = _purchase_updated.decode(payload)
        return UpdateCharge(
            updated.merchant_id.lower(),
            updated.charge_id,
            updated.status,
            came_from,
            None if updated.amount is None else amount_of(updated.amount),
            updated.currency and updated.currency.upper(),
        )
    if topic == topics.MERCHANT_CREATED:
        return installation(payload, came_from)
    if topic in RETURNS:
        return returned(topic, payload, came_from)
    if topic == topics.SHOPS:
        return shop_record_of(payload)
    if topic == topics.CHARGES:
        return _charge_record.decode(payload)
    if topic == topics.OPERATOR_COMMANDS:
        asked = _operator_command.decode(payload)
        return _in_lower_case(asked, came_from) if isinstance(asked, BY_OPERATORS) else asked
    if topic == topics.COMMANDS:
        return _in_lower_case(command_of(_command.decode(payload)), came_from)
    raise InvalidRecord(f"no records of topic {topic!r} are known here")


def payload_of(value: bytes) -> bytes | Raw:
    """The JSON of a record without its envelope. Raises DecodeError where it is not an object."""
    return _unpack(value)[0]


def _unpack(value: bytes) -> tuple[bytes | Raw, _Envelope, bool]:
    """Payload, envelope, and whether halves of characters were replaced."""
    value = value.removeprefix(_BYTE_ORDER_MARK)
    was_cut = False
    try:
        envelope = _envelope.decode(value)
    except msgspec.DecodeError:
        whole = without_halves(value)
        if whole is None:
            raise
        value, was_cut = whole, True
        envelope = _envelope.decode(value)
    data = envelope.data
    if data is UNSET:
        return value, envelope, was_cut
    # A bare payload may have a field `data` of its own.
    bare = envelope.merchant_id is not UNSET and not _names_a_merchant(data)
    return (value if bare else data), envelope, was_cut


def _text_of(raw: Raw | UnsetType) -> str | None:
    if raw is UNSET:
        return None
    try:
        return _text.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _names_a_merchant(data: Raw) -> bool:
    try:
        return _envelope.decode(data).merchant_id is not UNSET
    except msgspec.DecodeError:
        return False


def _in_lower_case(command: Command, came_from: str) -> Command:
    ids = {"merchant_id": command.merchant_id.lower(), "command_id": came_from}
    purchase_id = getattr(command, "purchase_id", None)
    if purchase_id is not None:
        ids["purchase_id"] = purchase_id.lower()
    return msgspec.structs.replace(command, **ids)


def _require_without(command: Payload, character: str, what: str) -> None:
    """PostgreSQL takes neither, and no sender means one."""
    for name in command.__struct_fields__:
        value = getattr(command, name)
        if character in (value if isinstance(value, str) else repr(value)):
            raise InvalidRecord(f"{name} contains {what}")


def encode_event(event: Event, event_type: str, correlation_id: str) -> bytes:
    """The event in its envelope."""
    return encode(
        _EventEnvelope(
            event.event_id, event_type, correlation_id, SOURCE_SERVICE, event.at, event.data
        )
    )


def correlation_of(command_id: str) -> str:
    """The correlation id of what came without one: derived, so always the same."""
    return derived_id("correlation", command_id)
