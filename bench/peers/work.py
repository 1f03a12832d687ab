"""What the peers share: how a record is read and decided, and rows as plain dicts.

Needs msgspec and nothing else, for Quix Streams runs in an environment of its own.

Commands, which prepare a run, and webhooks come in one topic here: that spares every
peer a second one, which Quix Streams would have to join by time.
"""

import gc
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from billing_stream.domain.catalogue import CatalogueVersion
from billing_stream.domain.decide import decide
from billing_stream.domain.model import Adjustment, Merchant, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import Decision, StoredResponse
from billing_stream.domain.policy import Policy
from billing_stream.domain.state import Rows, State
from billing_stream.records import schemas
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics

RECORD_BYTES_MAX = 262_144
POLICY = Policy()
EVENT_TYPES = {kind: names.event_type(kind) for kind in names.EVENT_TYPES}
IS_COMMAND = b'{"command"'


class PeerSetting(Struct, frozen=True, kw_only=True):
    """Where a peer runs: the broker, the topics, a folder; from the environment of a worker."""

    kafka: str
    topics: Topics
    partitions: int
    folder: str
    options: Mapping[str, str]

    @classmethod
    def of_environment(cls) -> "PeerSetting":
        """As `bench.setting.Setting.environment` says."""
        env = os.environ
        return cls(
            kafka=env["KAFKA_BOOTSTRAP_SERVERS"],
            topics=Topics(env["BILLING_APP_ID"], env["BILLING_TOPIC_PREFIX"]),
            partitions=int(env["BILLING_PARTITIONS"]),
            folder=env["BILLING_DATA_DIR"],
            options=env,
        )

    @property
    def input(self) -> str:
        """The topic of the webhooks, and of the commands before them."""
        return self.topics.name(names.PURCHASE_UPDATED)

    @property
    def event_topics(self) -> dict[str, str]:
        """The topic of each kind of event."""
        return {kind: self.topics.name(base) for kind, base in EVENT_TYPES.items()}


class Writable(Rows, Protocol):
    """Rows that take what a decision changed."""

    def add(self, decision: Decision) -> None:
        """Take the changes."""


def read(record: schemas.InputRecord) -> schemas.DecodedRecord:
    """Parse and validate a record of the input topic."""
    value = record.value or b""
    base = names.COMMANDS if value.startswith(IS_COMMAND) else names.PURCHASE_UPDATED
    return schemas.decode(base, record, RECORD_BYTES_MAX)


def carry_out(rows: Writable, incoming: schemas.DecodedRecord, now: datetime) -> Decision:
    """Decide, and let the rows take the changes."""
    command: Any = incoming.payload
    decision = decide(State.of(POLICY, rows, command.merchant_id), command, now)
    if decision.merchant is not None:
        rows.add(decision)
    return decision


def events_of(decision: Decision, incoming: schemas.DecodedRecord) -> list[tuple[str, bytes]]:
    """The kind and the bytes of each event."""
    correlation_id = incoming.correlation_id or ""
    return [
        (e.data.kind, schemas.encode_event(e, EVENT_TYPES[e.data.kind], correlation_id))
        for e in decision.events
    ]


def configure_gc() -> None:
    """As our worker does: it is worth a tenth of the throughput."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


class NoAnswers:
    """Rows without what neither webhooks nor the commands that prepare them need."""

    __slots__ = ()

    @property
    def versions(self) -> tuple[CatalogueVersion, ...]:
        """The packs of the settings are in force."""
        return ()

    def answer(self, merchant_id: str, key: str) -> StoredResponse | None:
        """No answer."""
        return None

    def answers(self, merchant_id: str) -> Iterable[StoredResponse]:
        """No answers."""
        return ()

    def answer_count(self, merchant_id: str) -> int:
        """None."""
        return 0

    def pending_count(self, merchant_id: str) -> int:
        """Not counted: nothing here opens many purchases."""
        return 0

    def adjustment(self, adjustment_id: str) -> Adjustment | None:
        """No adjustment."""
        return None

    def purchases_of(self, merchant_id: str) -> Iterable[Purchase]:
        """Nobody is forgotten here."""
        return ()


class PlainRows(NoAnswers):
    """Rows in plain dicts that are changed at once, with nothing to fall back to.

    `due` is a lower bound of when a pending purchase of the merchant expires: until then
    the list of them need not be looked at, nor kept in order.
    """

    __slots__ = ("_charges", "_pending", "due", "merchants", "purchases")

    def __init__(self) -> None:
        self.merchants: dict[str, Merchant] = {}
        self.purchases: dict[str, Purchase] = {}
        self.due: dict[str, datetime] = {}
        self._charges: dict[str, str] = {}
        self._pending: dict[str, list[str]] = {}

    def merchant(self, merchant_id: str) -> Merchant | None:
        """The merchant's row."""
        return self.merchants.get(merchant_id)

    def purchase(self, purchase_id: str) -> Purchase | None:
        """The purchase."""
        return self.purchases.get(purchase_id)

    def purchase_of_charge(self, merchant_id: str, charge_id: str) -> Purchase | None:
        """The merchant's purchase of this charge."""
        found = self._charges.get(f"{merchant_id}/{charge_id}")
        return self.purchases[found] if found is not None else None

    def pending_until(self, merchant_id: str, moment: datetime) -> Iterable[Purchase]:
        """What has expired by `moment`, soonest first."""
        due = self.due.get(merchant_id)
        if due is None or due > moment:
            return ()
        pending = [self.purchases[i] for i in self._pending.get(merchant_id, ())]
        pending = [p for p in pending if p.status is PurchaseStatus.PENDING]
        self._pending[merchant_id] = [p.id for p in pending]
        pending.sort(key=lambda purchase: (purchase.expires_at, purchase.id))
        if pending:
            self.due[merchant_id] = pending[0].expires_at
        return [p for p in pending if p.expires_at <= moment]

    def add(self, decision: Decision) -> None:
        """Take what a decision changed."""
        if decision.merchant is not None:
            self.put_merchant(decision.merchant)
        for purchase in decision.purchases:
            self.put_purchase(purchase)

    def put_merchant(self, merchant: Merchant) -> None:
        """Add or replace a merchant."""
        self.merchants[merchant.merchant_id] = merchant

    def put_purchase(self, purchase: Purchase) -> None:
        """Add or replace a purchase."""
        merchant_id = purchase.merchant_id
        old = self.purchases.get(purchase.id)
        self.purchases[purchase.id] = purchase
        if purchase.platform_charge_id is not None and (
            old is None or old.platform_charge_id is None
        ):
            self._charges[f"{merchant_id}/{purchase.platform_charge_id}"] = purchase.id
        if old is None and purchase.status is PurchaseStatus.PENDING:
            self._pending.setdefault(merchant_id, []).append(purchase.id)
            due = self.due.get(merchant_id)
            if due is None or purchase.expires_at < due:
                self.due[merchant_id] = purchase.expires_at
