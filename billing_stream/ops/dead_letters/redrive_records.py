"""The copy of a dead letter that is sent: of what, where to, and whether it is valid now.

Copies go to `billing.commands.v1`, as forwarded records do, with headers that name the topic
the record's topic and the letter: so the topics of others hold what they sent and nothing else,
and all copies are where lanes look for them.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Struct

from billing_stream.domain.ids import shop_key
from billing_stream.domain.outcomes import ShopRegistered, TrialClaimed
from billing_stream.domain.shops import NOBODYS, Claim, claim
from billing_stream.engine.partitioner import partition_of
from billing_stream.errors import DeadLettersError, InvalidRecord
from billing_stream.ops.dead_letters.dead_letter_reader import read_one
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.entries import DeadLetterEntry, payload_of
from billing_stream.ops.dead_letters.redrive_webhooks import (
    read_row,
    record_of,
    unrouted_record_of,
    webhook_topic,
)
from billing_stream.records import forwarding, schemas, topics
from billing_stream.records.charge_records import ChargeRecord
from billing_stream.records.commands_in import require_acceptable
from billing_stream.records.dead_letters import DeadLetter, record_sha256
from billing_stream.records.http_dead_letters import HttpDelivery, http_delivery
from billing_stream.records.operator_commands import OperatorCommand
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import Headers
from billing_stream.records.unreadable import without_mark
from billing_stream.tables.codecs import shop as shop_of

_OWN_HEADERS = "billing-redriven-"
_UNCLAIMED = "no purchase claimed the charge"
# What letters of unclaimed webhooks said before they could be sent again, of every kind.
_OLD_UNCLAIMED = {"merchant_id", "charge_id", "status"}


class RedriveRecord(Struct, frozen=True):
    """A record to be sent. `what` says for people what it asks for."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    partition: int
    what: str


class NotRedrivable(Exception):
    """Why a letter cannot be redriven as it is; the text is for people."""


class _Candidate(Struct):
    """As an input record: to be read before it is one."""

    topic: str
    headers: Headers
    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    offset: int = 0
    timestamp: int = 0


async def copy_of(
    cluster: Cluster, letter: DeadLetterEntry, *, value: bytes | None = None, force: bool = False
) -> RedriveRecord:
    """The copy of a letter, with `value` in place of its own if that is given.

    Raises Unfit when it would do harm, and, unless `force`, when it would surely be a dead
    letter again.
    """
    delivery = http_delivery(letter.record)
    if delivery is not None:
        return await _copy_of_webhook(cluster, letter, delivery, value, force)
    base = cluster.topics.base(letter.record.topic)
    if base == topics.OPERATOR_COMMANDS:
        raise NotRedrivable(
            "an operator's command: give it again (`billing-stream inputs`, `catalogue`)"
        )
    if base == topics.CHARGES:
        return await _copy_of_unrouted(cluster, letter, value, force)
    if base not in topics.INPUTS:
        raise NotRedrivable(f"{letter.record.topic} is not a topic that billing reads")
    record = letter.record if value is not None else await _mended(cluster, letter.record)
    raw = record.value if value is None else value
    return await _checked(cluster, letter, _headers(record, base, letter.root), raw, force=force)


async def _copy_of_webhook(
    cluster: Cluster,
    letter: DeadLetterEntry,
    delivery: HttpDelivery,
    value: bytes | None,
    force: bool,
) -> RedriveRecord:
    """The record that a webhook over HTTP would have been, had it been valid."""
    body = letter.record.value if value is None else value
    base = webhook_topic(delivery)
    try:
        base, body = await record_of(cluster, delivery, body or b"")
    except InvalidRecord as error:
        if not force:
            raise NotRedrivable(f"would be a dead letter again: {error}") from None
    headers = _headers(letter.record, base, letter.root)
    return await _checked(cluster, letter, headers, body, force=force)


async def _copy_of_unrouted(
    cluster: Cluster, letter: DeadLetterEntry, value: bytes | None, force: bool
) -> RedriveRecord:
    """The record that a webhook would have been, had a purchase had its charge in time."""
    kept = letter.record.value or b""
    if letter.record.reason.startswith("CHARGE_TAKEN"):
        raise NotRedrivable("another purchase has the charge: discard the dead letter")
    try:
        base, body = await unrouted_record_of(cluster, kept, kept if value is None else value)
    except InvalidRecord as error:
        raise NotRedrivable(f"would be a dead letter again: {error}") from None
    return await _checked(
        cluster, letter, _headers(letter.record, base, letter.root), body, force=force
    )


async def _checked(
    cluster: Cluster,
    letter: DeadLetterEntry,
    headers: list[tuple[str, bytes | None]],
    raw: bytes | None,
    *,
    force: bool,
) -> RedriveRecord:
    candidate = _Candidate(cluster.commands, headers, raw)
    try:
        command = schemas.decode(topics.COMMANDS, candidate, cluster.max_record_bytes).payload
        require_acceptable(command)
    except InvalidRecord as error:
        if force:
            return _by_its_key(cluster, letter, headers, raw)
        raise NotRedrivable(f"would be a dead letter again: {error}") from None
    if isinstance(command, ShopRegistered):
        return await _copy_of_claim(cluster, command, headers, raw, force=force)
    if isinstance(command, TrialClaimed | OperatorCommand | ChargeRecord):
        raise NotRedrivable("is a record of lanes or operators, which does not come that way")
    merchant = command.merchant_id
    what = f"{command.__struct_config__.tag} of merchant {merchant}"
    partition = partition_of(merchant, cluster.partitions)
    return RedriveRecord(merchant.encode(), raw, headers, partition, what)


async def _copy_of_claim(
    cluster: Cluster,
    said: ShopRegistered,
    headers: list[tuple[str, bytes | None]],
    raw: bytes | None,
    *,
    force: bool,
) -> RedriveRecord:
    """A merchant claims a shop once more, at the lane that decides."""
    shop = shop_key(said.platform, said.domain)
    row = await read_row(cluster, topics.SHOPS_TABLE, shop)
    known = NOBODYS if row is None else shop_of(row)
    if claim(known, said)[1] is Claim.TAKEN and not force:
        raise NotRedrivable(
            f"would be a dead letter again: merchant {known.merchant_id} has it, with another "
            "platform_shop_id"
        )
    what = f"claim of a shop by merchant {said.merchant_id}"
    partition = partition_of(shop, cluster.partitions)
    return RedriveRecord(shop.encode(), raw, headers, partition, what)


def _headers(record: DeadLetter, base: str, line: str) -> list[tuple[str, bytes | None]]:
    topic = base
    if base == topics.COMMANDS:
        topic = forwarding.forwarded_topic(record.headers) or topics.COMMANDS
    ours = ("billing-forwarded-", _OWN_HEADERS)
    headers = [(name, held) for name, held in record.headers if not name.startswith(ours)]
    if topic != topics.COMMANDS:
        headers.append((forwarding.FORWARDED_TOPIC, topic.encode()))
    return [*headers, (forwarding.REDRIVEN_FROM, line.encode())]


def _by_its_key(
    cluster: Cluster,
    letter: DeadLetterEntry,
    headers: list[tuple[str, bytes | None]],
    value: bytes | None,
) -> RedriveRecord:
    """Its merchant is unknown: it goes where its key says."""
    key = letter.record.key
    text = (key or b"").decode("utf-8", "replace")
    partition = partition_of(text, cluster.partitions) if text else letter.partition
    return RedriveRecord(key, value, headers, partition, "what cannot be understood")


async def _mended(cluster: Cluster, record: DeadLetter) -> DeadLetter:
    """The record itself, where its letter holds a part of it, or an older one says too little."""
    if record.truncated is not UNSET:
        return await whole_record(cluster, record)
    if not _says_too_little(cluster, record):
        return record
    source = None
    if record.offset >= 0:
        source = await read_one(cluster, record.topic, record.partition, record.offset)
    if source is None:
        ref = str(RecordRef.of(record))
        raise NotRedrivable(
            f"an older dead letter that does not say whether it was a payment or a refund, nor of "
            f"how much, and its record {ref} is gone: give the right value with --edit"
        )
    return msgspec.structs.replace(
        record, key=source.key, value=source.value, headers=list(source.headers)
    )


async def whole_record(cluster: Cluster, record: DeadLetter) -> DeadLetter:
    """The whole record of a letter, read from its topic where the letter holds a part of it.

    Raises NotRedrivable when it is gone, or has another digest.
    """
    if record.truncated is UNSET:
        return record
    ref = str(RecordRef.of(record))
    try:
        source = await read_one(cluster, record.topic, record.partition, record.offset)
    except DeadLettersError as error:
        raise NotRedrivable(f"the dead letter holds a part of its record: {error}") from None
    if source is None:
        raise NotRedrivable(f"the dead letter holds a part of its record, and {ref} is gone")
    if record_sha256(source) != record.truncated.record_sha256:
        raise NotRedrivable(
            f"the dead letter holds a part of its record, and the record at {ref} has another "
            "SHA-256"
        )
    return msgspec.structs.replace(
        record,
        key=source.key,
        value=source.value,
        headers=without_mark(source.headers),
        truncated=UNSET,
    )


def _says_too_little(cluster: Cluster, record: DeadLetter) -> bool:
    payload: Any = payload_of(record.value)
    if not record.reason.startswith(_UNCLAIMED) or record.headers:
        return False
    if not isinstance(payload, dict) or set(payload) != _OLD_UNCLAIMED:
        return False
    of_updates = cluster.topics.base(record.topic) == topics.PURCHASE_UPDATED
    return not of_updates or (record.offset < 0 and payload["status"] == "refunded")
