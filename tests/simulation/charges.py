"""The charges of a simulated world, by the rules alone: who has each, and what waits."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from billing_stream.domain.commands import RefundCharge, UpdateCharge
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.timestamps import instant
from tests.simulation.sim_log import Entry
from tests.simulation.traffic import Meaning
from tests.simulation.world import POLICY

Claim = tuple[str, str]


class Waits(Struct, frozen=True):
    """A webhook that waits: what it says, its record, and when that came."""

    said: Any
    ref: str
    at: datetime


class Charges:
    """`owners` are merchant and purchase by charge, `waiting` webhooks by charge."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self.owners: dict[str, Claim] = {}
        self.waiting: dict[str, list[Waits]] = {}

    def take(self, entry: Entry, ref: str) -> list[Any]:
        """What must come of a record of the topic of charges."""
        try:
            said = msgspec.json.decode(entry.value or b"")
            key = f"{said['platform']}:{said['charge_id']}"
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
            return [("dead", ref, "")]
        if partition_of(key, self._partitions) != entry.partition:
            return [("dead", ref, "only workers")]
        owner = self.owners.get(key)
        if said["record"] == "charge_registered":
            claim = said["merchant_id"], said["purchase_id"]
            if owner is None:
                self.owners[key] = claim
                return [self._route(claim, one.said, one.ref) for one in self.waiting.pop(key, [])]
            return [] if owner == claim else [("dead", ref, "CHARGE_TAKEN"), ("charge", key, owner)]
        if owner is not None:
            return [self._route(owner, said, ref)]
        waiting = self.waiting.setdefault(key, [])
        if any(one.said == said for one in waiting):
            return []
        if len(waiting) >= POLICY.parked_max:
            return [("dead", ref, "no purchase has the charge")]
        waiting.append(Waits(said, ref, instant(entry.timestamp)))
        return []

    def expire(self, letters: Iterable[Any], now: datetime) -> str | None:
        """Take what became a dead letter by the time alone; why one must not be, or None."""
        for letter in letters:
            ref = f"{letter['topic']}[{letter['partition']}]@{letter['offset']}"
            found = [(k, w) for k, all_ in self.waiting.items() for w in all_ if w.ref == ref]
            if not found:
                return f"{ref} is a dead letter and did not wait"
            ((key, waits),) = found
            if waits.at + POLICY.early_webhook_expiry > now:
                return f"{ref} was given up at {now}, and waits since {waits.at}"
            self.waiting[key].remove(waits)
        return None

    def overdue(self, now: datetime) -> list[str]:
        """What waits for too long."""
        limit = now - POLICY.early_webhook_expiry
        return [one.ref for waiting in self.waiting.values() for one in waiting if one.at <= limit]

    def rows(self) -> dict[str, Any]:
        """Of each charge its claim, or the records of the webhooks that wait."""
        waiting = {key: [one.ref for one in found] for key, found in self.waiting.items() if found}
        return self.owners | waiting

    def _route(self, claim: Claim, said: Any, ref: str) -> Any:
        payload = {**said["payload"], "merchant_id": claim[0]}
        return "routed", partition_of(claim[0], self._partitions), said["topic"], payload, ref


def meaning_of_routed(entry: Entry, topic: str) -> Meaning:
    """What a record says that was a webhook without a merchant."""
    data = msgspec.json.decode(entry.value or b"")["data"]
    merchant, charge = data["merchant_id"], data["charge_id"]
    if topic == names.PURCHASE_REFUNDED:
        return Meaning(RefundCharge(merchant, charge, "", None, data["amount"]))
    return Meaning(UpdateCharge(merchant, charge, data["status"]))
