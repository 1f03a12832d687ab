"""Charges: which purchase has each, and what became of webhooks that named no merchant.

Written from the contract: the first registration of a charge counts, a later one of another
purchase is a dead letter. A webhook waits until its charge is registered, and is then a record of
its merchant, once; or it is a dead letter.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from billing_stream.audit.verify.content import header
from billing_stream.audit.verify.log_records import Record, partition_of
from billing_stream.audit.verify.odd_json import InvalidInput
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef

TAKEN = "CHARGE_TAKEN: "
# Of these letters the record did nothing, whatever it says.
NOTHING = ("SKIPPED: ", "INTERNAL_ERROR: ")
_UUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_WEBHOOKS = {names.PURCHASE_UPDATED, names.PURCHASE_REFUNDED} | set(names.WEBHOOKS)

Owner = tuple[str, str]
"""Merchant and purchase."""


class Webhook(NamedTuple):
    """A webhook without a merchant: what it becomes a record of, and what that says."""

    topic: str
    payload: Any


class Routed(NamedTuple):
    """A record that a webhook became, once its charge was registered."""

    ref: RecordRef
    topic: str | None
    payload: Any


@dataclass
class ChargeFacts:
    """What was read of charges. `filled` are partitions that registered all that they had."""

    registered: dict[str, dict[RecordRef, Owner]] = field(default_factory=dict)
    webhooks: dict[str, dict[RecordRef, Webhook]] = field(default_factory=dict)
    routed: dict[RecordRef, list[Routed]] = field(default_factory=dict)
    rows: dict[str, Any] = field(default_factory=dict)
    unread: set[RecordRef] = field(default_factory=set)
    filled: set[int] = field(default_factory=set)

    def take(self, record: Record, partitions: int, bytes_max: int) -> None:
        """A record of `billing.charges.v1`. Raises InvalidInput."""
        value = record.value
        if value is None or len(value) > bytes_max:
            raise InvalidInput("the value is null or too long")
        data = _object_in(value)
        if "record" not in data and isinstance(data.get("data"), dict):
            data = data["data"]
        kind, ref = data.get("record"), RecordRef.of(record)
        key = f"{_text(data, 'platform').lower()}:{_text(data, 'charge_id')}"
        if record.partition != partition_of(key, partitions):
            raise InvalidInput("a charge of another partition")
        if kind == "charge_registered":
            owner = _uuid(data, "merchant_id"), _uuid(data, "purchase_id")
            self.registered.setdefault(key, {})[ref] = owner
        elif kind == "unrouted_webhook":
            webhook = Webhook(_text(data, "topic"), data.get("payload"))
            if webhook.topic not in _WEBHOOKS or not isinstance(webhook.payload, dict):
                raise InvalidInput("it is not a webhook")
            self.webhooks.setdefault(key, {})[ref] = webhook
        else:
            raise InvalidInput(f"no record {kind!r} is known")

    def take_routed(self, source: RecordRef, record: Record) -> None:
        """A record of a merchant that a webhook became. Unreadable ones are judged elsewhere."""
        try:
            data = _object_in(record.value or b"").get("data")
        except InvalidInput:
            data = None
        topic = header(record, "billing-forwarded-topic")
        self.routed.setdefault(source, []).append(Routed(RecordRef.of(record), topic, data))

    def owner(self, key: str) -> Owner | None:
        """Who has the charge, by the table."""
        row = self.rows.get(key, {})
        merchant, purchase = row.get("merchant_id"), row.get("purchase_id")
        return None if merchant is None else (merchant, purchase)


def objections(
    facts: ChargeFacts, letters: Mapping[RecordRef, Any]
) -> Iterator[tuple[str, RecordRef | None, str | None]]:
    """Faults of registrations and webhooks; the record, and the merchant."""
    yield from _of_registrations(facts, letters)
    for key, webhooks in facts.webhooks.items():
        yield from _of_webhooks(facts, key, webhooks, letters)
    known = {ref for webhooks in facts.webhooks.values() for ref in webhooks}
    for source, copies in facts.routed.items():
        if source not in known and source not in facts.unread:
            yield f"{source} is not a webhook without a merchant", copies[0].ref, None


def _of_registrations(
    facts: ChargeFacts, letters: Mapping[RecordRef, Any]
) -> Iterator[tuple[str, RecordRef | None, str | None]]:
    for key in facts.registered.keys() | facts.rows.keys():
        owner = facts.owner(key)
        claims = {
            ref: claim
            for ref, claim in facts.registered.get(key, {}).items()
            if ref not in facts.unread and not _says(letters, ref, NOTHING)
        }
        if owner is not None and owner not in claims.values():
            yield (
                f"purchase {owner[1]} has the charge {key} and did not register it",
                None,
                owner[0],
            )
        for ref, claim in claims.items():
            is_taken = _says(letters, ref, (TAKEN,))
            if claim == owner and is_taken:
                yield "is a dead letter, and has the charge", ref, claim[0]
            elif claim != owner and not is_taken:
                has = f"purchase {owner[1]} has it" if owner else "no purchase has it"
                yield f"registers the charge {key}, {has}, and is not a dead letter", ref, claim[0]


def _of_webhooks(
    facts: ChargeFacts,
    key: str,
    webhooks: Mapping[RecordRef, Webhook],
    letters: Mapping[RecordRef, Any],
) -> Iterator[tuple[str, RecordRef | None, str | None]]:
    owner = facts.owner(key)
    waiting = Counter(one["source"] for one in facts.rows.get(key, {}).get("waiting", ()))
    same: dict[Any, list[RecordRef]] = defaultdict(list)
    for ref, webhook in webhooks.items():
        if ref in facts.unread:
            continue
        copies = facts.routed.get(ref, [])
        outcomes = len(copies) + len(letters.get(ref, ())) + waiting[str(ref)]
        said = msgspec.json.encode(webhook, order="sorted")
        if outcomes > 1:
            yield f"a webhook of the charge {key} has {outcomes} outcomes", ref, None
        elif not outcomes and not same[said]:
            # One that says the same as one that waits changes nothing.
            yield f"a webhook of the charge {key} was lost", ref, None
        same[said].append(ref)
        for copy in copies:
            wanted = {**webhook.payload, "merchant_id": owner[0] if owner else None}
            if (copy.topic, copy.payload) != (webhook.topic, wanted):
                yield f"says something else than {ref}", copy.ref, owner[0] if owner else None
    if owner is not None and waiting:
        yield f"webhooks wait for the charge {key}, which has a purchase", None, owner[0]


def _object_in(value: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(value, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise InvalidInput(str(error)) from None
    return found


def _says(letters: Mapping[RecordRef, Any], ref: RecordRef, beginnings: tuple[str, ...]) -> bool:
    return any(letter.reason.startswith(beginnings) for letter in letters.get(ref, ()))


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= 255:
        raise InvalidInput(f"{name} is not a text of 1 to 255 characters")
    return value


def _uuid(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or _UUID.fullmatch(value) is None:
        raise InvalidInput(f"{name} is not a UUID")
    return value
