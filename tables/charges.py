"""The charges of one partition: which purchase has each, and which webhooks wait for one.

The lane of a charge's key decides who has it. Lanes of merchants write to its input that a charge
was attached, and do not wait for it; webhooks that name no merchant come there, too.
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Protocol

from billing_stream.domain import charges, shops
from billing_stream.domain.charges import Charge, WaitingWebhook
from billing_stream.domain.outcomes import ShopRegistered
from billing_stream.domain.policy import Policy
from billing_stream.engine.log import MARK_PREFIX
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics
from billing_stream.records.charge_records import ChargeRecord, ChargeRegistered, UnroutedWebhook
from billing_stream.records.dead_letters import (
    NO_ROOM,
    AddLetter,
    dead_letter,
    dead_letter_of_unrouted,
)
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import InputRecord
from billing_stream.records.timestamps import instant
from billing_stream.records.topics import Topics
from billing_stream.records.upcasting.versions import WRITTEN
from billing_stream.tables.charge_outputs import routed
from billing_stream.tables.deadlines import Deadlines
from billing_stream.tables.outgoing_records import OutgoingRecords
from billing_stream.tables.rows import PartitionRows, StagedRows

# Codes of dead letters.
CHARGE_TAKEN = "CHARGE_TAKEN"
UNCLAIMED = "UNCLAIMED"
MISPLACED = "NOT_UNDERSTOOD"
# Charges of one partition for which webhooks wait; those of further ones are dead letters.
WAITING_MAX = 10_000
# In one transaction.
FILLED_PER_COMMIT_MAX = 1_000
EXPIRED_PER_COMMIT_MAX = 1_000
# The mark that all charges of the partition's purchases were registered, and the shops of its
# merchants by their names of now.
FILLED = b"charges/filled"


class Place(Protocol):
    """A partition among how many, its policy, and what makes its records."""

    partition: int
    partitions: int
    names: Topics
    policy: Policy
    records: OutgoingRecords


def take(
    said: ChargeRecord,
    record: InputRecord,
    correlation_id: str | None,
    rows: StagedRows,
    place: Place,
    out: list[Outgoing],
    add_letter: AddLetter,
) -> bool:
    """Register a charge, or route a webhook or have it wait; False: it is on a wrong partition."""
    key = said.charge
    here = partition_of(key, place.partitions) == place.partition == record.partition
    if not here or (isinstance(said, UnroutedWebhook) and said.topic not in topics.WEBHOOKS):
        add_letter(dead_letter(record, "only workers write here, and none writes this"), MISPLACED)
        return False
    known, where = rows.charge(key), (place.names, place.partitions)
    if isinstance(said, ChargeRegistered):
        found = charges.register(known, said.merchant_id, said.purchase_id)
        if found is None:
            _refuse(said, known, record, place, out, add_letter)
        elif found is not known:
            rows.charges[key] = found
            out += [routed(one, said.merchant_id, *where) for one in known.waiting]
        return True
    webhook = WaitingWebhook(
        said.topic,
        said.payload,
        str(RecordRef.of(record)),
        instant(record.timestamp),
        said.merchant_id,
        correlation_id,
    )
    if known.merchant_id is not None:
        out.append(routed(webhook, known.merchant_id, *where))
        return True
    room = known.waiting or len(rows.unclaimed) < WAITING_MAX
    found = charges.wait(known, webhook, place.policy.parked_max if room else 0)
    if found is None:
        why = (
            f"no purchase has the charge {said.charge_id!r}, and too many webhooks wait ({NO_ROOM})"
        )
        add_letter(dead_letter(record, why), NO_ROOM)
    elif found is not known:
        rows.charges[key] = found
    return True


def _refuse(
    said: ChargeRegistered,
    known: Charge,
    record: InputRecord,
    place: Place,
    out: list[Outgoing],
    add_letter: AddLetter,
) -> None:
    """Make the second claim a dead letter, and leave the first to compaction."""
    owner = f"purchase {known.purchase_id} of merchant {known.merchant_id}"
    why = f"{CHARGE_TAKEN}: the charge {said.charge_id!r} is that of {owner}"
    add_letter(dead_letter(record, why), CHARGE_TAKEN)
    first = ChargeRegistered(
        said.platform, said.charge_id, known.merchant_id or "", known.purchase_id or ""
    )
    out.append(place.records.registered(first))


def restore(rows: PartitionRows, key: bytes) -> bool:
    """Take the mark from the changelog; False: it is another one."""
    rows.charges_filled |= key == FILLED
    return key == FILLED


class ChargeWork:
    """What the lane of a partition does with charges by itself.

    Webhooks that waited for too long become dead letters. And at the first start of a release that
    registers charges, those of all purchases are registered, some in each transaction, and shops by
    their names of now; a worker that ends before the last begins again, which changes nothing.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._deadlines = Deadlines()
        self._unregistered: deque[str] = deque()
        self._renamed: deque[ShopRegistered] = deque()

    def restored(self, rows: PartitionRows) -> None:
        """Schedule webhooks that wait, and find charges to be registered."""
        for key, charge in rows.unclaimed.items():
            self.schedule(key, charge)
        if not rows.charges_filled:
            attached = (p.id for p in rows.purchases.values() if p.platform_charge_id is not None)
            self._unregistered = deque(attached)
            self._renamed = deque(s for m in rows.merchants.values() for s in shops.renamed(m))

    def schedule(self, key: str, charge: Charge) -> None:
        """Have the charge looked at when its first webhook has waited for too long."""
        if charge.waiting:
            expiry = self._place.policy.early_webhook_expiry
            self._deadlines.set(key, charge.waiting[0].at + expiry)

    def next_due(self) -> datetime | None:
        """When there is something to do next, or None."""
        if self._unregistered or self._renamed:
            return datetime.min.replace(tzinfo=UTC)
        return self._deadlines.first()

    def fill(self, rows: StagedRows) -> Iterator[Outgoing]:
        """Register some of the charges and shops of before, and mark the last."""
        for _ in range(min(len(self._unregistered), FILLED_PER_COMMIT_MAX)):
            purchase = rows.purchase(self._unregistered.popleft())
            if purchase is not None:
                charge_id = purchase.platform_charge_id or ""
                said = ChargeRegistered(
                    purchase.platform, charge_id, purchase.merchant_id, purchase.id
                )
                yield self._place.records.registered(said)
        for _ in range(min(len(self._renamed), FILLED_PER_COMMIT_MAX)):
            yield from self._place.records.shops((self._renamed.popleft(),))
        yield from self.mark(rows)

    def mark(self, rows: StagedRows) -> Iterator[Outgoing]:
        """Write the mark, when it is missing and nothing is left to be registered."""
        if not self._unregistered and not self._renamed and not rows.charges_filled:
            rows.charges_filled = True
            topic = self._place.names.changelog(topics.BILLING_RECORDS)
            yield Outgoing(topic, MARK_PREFIX + FILLED, b"1", WRITTEN)

    def expire(self, rows: StagedRows, now: datetime, add_letter: AddLetter) -> None:
        """Make dead letters of webhooks that have waited for too long."""
        expiry = self._place.policy.early_webhook_expiry
        for key in self._deadlines.take(now, EXPIRED_PER_COMMIT_MAX):
            known = rows.charge(key)
            rest, given_up = charges.expire(known, now, expiry)
            if given_up:
                rows.charges[key] = rest
            for webhook in given_up:
                add_letter(dead_letter_of_unrouted(key, webhook), UNCLAIMED)
            self.schedule(key, rest)

    def step(
        self, rows: StagedRows, now: datetime, out: list[Outgoing], add_letter: AddLetter
    ) -> bool:
        """Do what one transaction has room for; whether there is more."""
        self.expire(rows, now, add_letter)
        if self._unregistered or self._renamed:
            out += self.fill(rows)
        due = self.next_due()
        return due is not None and due <= now
