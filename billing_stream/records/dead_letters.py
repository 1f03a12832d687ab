"""Dead letters: of a record that cannot be carried out, and of an unclaimed webhook.

A letter holds its record whole, unless that is too large for the topic (compressed records
unpack to more than any topic takes): then what identifies it, and how it begins.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from billing_stream.domain.charges import WaitingWebhook
from billing_stream.domain.commands import Text
from billing_stream.domain.model import Instant
from billing_stream.domain.outcomes import UnmatchedWebhook
from billing_stream.domain.reports import ParkedKind
from billing_stream.records import topics
from billing_stream.records.charge_records import UnroutedWebhook
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import InputRecord, encode
from billing_stream.records.timestamps import instant
from billing_stream.records.unreadable import headers_bytes, without_mark

# Of key, value and headers: in base64 a third more, of the 4 MiB that the topic takes.
WHOLE_BYTES_MAX = 1 << 20
KEPT_BYTES = 64 << 10
# The code of a webhook whose charge is not known, and for which no room was left to wait.
NO_ROOM = "TOO_MANY_EARLY_WEBHOOKS"
# Of what was parked, the topic and the command.
_RETURNS = {
    ParkedKind.REFUND: (topics.PURCHASE_REFUNDED, "refund_charge"),
    ParkedKind.REFUND_FAILED: (topics.REFUND_FAILED, "fail_refund"),
    ParkedKind.DISPUTE: (topics.PURCHASE_DISPUTED, "dispute_charge"),
}
_SAID = ("purchase_id", "amount", "currency", "charge_amount", "refund_id", "dispute_id")


class Truncated(Struct, frozen=True, gc=False):
    """What a dead letter does not hold of a large record: its sizes and digests (SHA-256, hex).

    `value_bytes` is the size of the value, null where the value is; `record_bytes` that of key,
    value and headers. `record_sha256` is of these, each after its length; names of headers, too.
    """

    value_bytes: int | None
    value_sha256: str | None
    record_bytes: int
    record_sha256: str


class DeadLetter(Struct, frozen=True, kw_only=True, gc=False):
    """`dlq.billing.v1`: a record that could not be understood, and why.

    `key`, `value` and the values of `headers` are base64 text in the JSON. They are whole, but
    for those of a large record, which has `truncated`: then they are the first 64 KiB of key and
    value, and as many headers as 64 KiB hold.

    Of an invalid webhook over HTTP `topic` is `http:{platform}`, `partition` and `offset` are -1,
    `value` is its body, and headers name its `delivery`, its `kind` and its `shop`, as far as they
    are known.
    """

    topic: str
    partition: int
    offset: int
    timestamp: Instant
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    reason: str
    truncated: Truncated | UnsetType = UNSET


AddLetter = Callable[[DeadLetter, str], None]
"""Writes a dead letter, which counts under this code."""


class DeadLetterAction(Struct, frozen=True, kw_only=True, gc=False):
    """`billing.dead-letter-actions.v1`: who did what with a dead letter, and why.

    `letter` is its reference, `topic[partition]@offset`; `target` that of the copy that was sent,
    in the same transaction. `edited`: with another value than the letter has. `again`: though
    it was redriven or discarded before.
    """

    letter: str
    action: Literal["redriven", "discarded"]
    by: Text
    at: Instant
    reason: Text
    target: str | None = None
    edited: bool = False
    again: bool = False


# Of records of `dlq.billing.v1` and of the actions; both raise msgspec.DecodeError.
decode_letter = msgspec.json.Decoder(DeadLetter).decode
decode_action = msgspec.json.Decoder(DeadLetterAction).decode


def dead_letter(record: InputRecord, reason: str) -> DeadLetter:
    """The dead letter of a record."""
    headers = without_mark(record.headers)
    letter = DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=instant(max(record.timestamp, 0)),
        key=record.key,
        value=record.value,
        headers=headers,
        reason=reason,
    )
    size = len(record.key or b"") + len(record.value or b"") + headers_bytes(headers)
    return letter if size <= WHOLE_BYTES_MAX else _truncated(letter, size)


def record_sha256(record: Any) -> str:
    """The digest of key, value and headers of a record, as `Truncated` has it (hex)."""
    digest = hashlib.sha256()
    for part in _parts(record):
        digest.update(b"\xff" * 8 if part is None else len(part).to_bytes(8, "big"))
        digest.update(part or b"")
    return digest.hexdigest()


def _parts(record: Any) -> Iterator[bytes | None]:
    yield record.key
    yield record.value
    for name, value in without_mark(record.headers):
        yield name.encode()
        yield value


def _truncated(letter: DeadLetter, size: int) -> DeadLetter:
    value, kept, room = letter.value, [], KEPT_BYTES
    for header in letter.headers:
        room -= headers_bytes([header])
        if room < 0:
            break
        kept.append(header)
    return msgspec.structs.replace(
        letter,
        key=letter.key and letter.key[:KEPT_BYTES],
        value=value and value[:KEPT_BYTES],
        headers=kept,
        truncated=Truncated(
            value_bytes=None if value is None else len(value),
            value_sha256=None if value is None else hashlib.sha256(value).hexdigest(),
            record_bytes=size,
            record_sha256=record_sha256(letter),
        ),
    )


def dead_letter_of_unmatched(unclaimed: UnmatchedWebhook, names: topics.Topics) -> DeadLetter:
    """The dead letter of a parked webhook that no purchase claimed.

    It names the reference of the record, and says what was parked as a record of that topic, fit
    for a redrive: as a webhook, or on the topic of commands as a command. What came from no
    topic is a command without a reference (partition and offset are -1).
    """
    parked, refused = unclaimed.parked, unclaimed.refused
    topic, tag = _RETURNS.get(parked.kind, (topics.PURCHASE_UPDATED, "update_charge"))
    webhooks = names.name(topic)
    try:
        source, partition, offset = RecordRef.parse(parked.source)
    except ValueError:
        source, partition, offset = names.name(topics.COMMANDS), -1, -1
    command = {"merchant_id": unclaimed.merchant_id, "charge_id": parked.charge_id}
    if source != webhooks:
        command["command"] = tag
    if parked.kind not in (ParkedKind.REFUND, ParkedKind.REFUND_FAILED):
        command["status"] = parked.status
    said = {name: getattr(parked, name) for name in _SAID}
    command |= {name: value for name, value in said.items() if value is not None}
    why = " in time"
    if unclaimed.others:
        why = f", and {unclaimed.others} webhooks wait for theirs already ({NO_ROOM})"
    return DeadLetter(
        topic=source,
        partition=partition,
        offset=offset,
        timestamp=parked.at,
        key=unclaimed.merchant_id.encode(),
        value=encode(command),
        headers=[],
        reason=f"{refused.code}: {refused.message}"
        if refused is not None
        else f"no purchase claimed the charge {parked.charge_id!r}{why}",
    )


def dead_letter_of_unrouted(key: str, webhook: WaitingWebhook) -> DeadLetter:
    """The dead letter of a webhook that names no merchant: its charge was not registered in time.

    `key` is that of the charge. It is the letter of the webhook's record.
    """
    platform, _, charge_id = key.partition(":")
    said = UnroutedWebhook(platform, charge_id, webhook.topic, webhook.payload, webhook.merchant_id)
    topic, partition, offset = RecordRef.parse(webhook.source)
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=webhook.at,
        key=key.encode(),
        value=encode(said),
        headers=[],
        reason=f"no purchase claimed the charge {charge_id!r} in time",
    )
