"""Rows of the old service to one command per merchant, which says all that is known of it.

A fault is repaired by a rule that has a name (`findings.REPAIRS`), or rejected.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from billing_stream.domain.commands import ImportMerchant, OldPurchase
from billing_stream.domain.policy import Policy
from billing_stream.migration.findings import Findings
from billing_stream.migration.old_database import PURCHASES, RECORDS, Group, Row
from billing_stream.migration.old_purchases import PurchaseReader
from billing_stream.migration.values import flag_of, moment_of, uuid_of, whole_of

TIMES = ("created_at", "updated_at", "trial_started_at", "trial_ends_at", "last_purchase_at")

Shop = tuple[str, str]
"""Platform and domain."""

Times = Mapping[str, list[datetime]]
"""By column, the times that the records of one merchant have in it."""


class Trial(NamedTuple):
    """A trial as the old service had it."""

    available: bool = True
    started_at: datetime | None = None
    ends_at: datetime | None = None


class Mapper:
    """Makes the commands. `duplicate_purchase_ids` are purchase ids that more than one row has."""

    def __init__(
        self,
        policy: Policy,
        findings: Findings,
        *,
        shops: Mapping[str, Shop] | None = None,
        duplicate_purchase_ids: frozenset[str] = frozenset(),
    ) -> None:
        self._policy = policy
        self._findings = findings
        self._shops = shops or {}
        self._purchases = PurchaseReader(policy, findings, duplicate_purchase_ids)

    def command(self, group: Group) -> ImportMerchant | None:
        """The merchant with all of its purchases, or None when nothing of it can be used."""
        findings, records = self._findings, group.records
        findings.read[RECORDS] += len(records)
        findings.read[PURCHASES] += len(group.purchases)
        merchant = uuid_of(group.key)
        if merchant is None:
            self._reject(group)
            return None
        times = {column: self._times(merchant, records, column) for column in TIMES}
        recorded = _first(times, "created_at")
        known = recorded or _first(times, "updated_at", "trial_started_at", "last_purchase_at")
        purchases = self._purchases.read(group.purchases, known)
        came = known or min((purchase.created_at for purchase in purchases), default=None)
        if came is None:
            for row in records:
                findings.rejected(RECORDS, "record-no-time", row)
            return None
        if not records:
            findings.repaired("record-missing", merchant)
        elif recorded is None:
            findings.repaired("record-without-time", merchant)
        if len(records) > 1:
            findings.repaired("record-twice", merchant)
        trial = self._trial(merchant, records, times) if records else Trial()
        platform, domain = self._shops.get(merchant, (None, None))
        return ImportMerchant(
            merchant_id=merchant,
            created_at=came,
            trial_available=trial.available,
            trial_started_at=trial.started_at,
            trial_ends_at=trial.ends_at,
            last_purchase_at=self._last_purchase(merchant, records, times, purchases),
            platform=platform,
            domain=domain,
            purchases=tuple(purchases),
        )

    def _reject(self, group: Group) -> None:
        for row in group.records:
            self._findings.rejected(RECORDS, "merchant-no-uuid", row)
        for row in group.purchases:
            self._purchases.reject(row, "merchant-no-uuid")

    def _trial(self, merchant: str, records: list[Row], times: Times) -> Trial:
        """Whether the trial was used, and when: a merchant who had it does not get it again."""
        findings, length = self._findings, self._policy.trial_duration
        flags = {flag_of(row["trial_available"]) for row in records}
        started, ends = _first(times, "trial_started_at"), _first(times, "trial_ends_at")
        dated = started is not None or ends is not None
        if flags == {None}:
            findings.repaired("trial-flag-missing", merchant)
        elif False not in flags and dated:
            findings.repaired("trial-dates-without-flag", merchant)
        if False not in flags and not dated:
            return Trial()
        if started is None and ends is None:
            findings.repaired("trial-flag-without-dates", merchant)
        elif started is None and ends is not None:
            findings.repaired("trial-without-start", merchant)
            started = ends - length
        elif started is not None and ends is None:
            findings.repaired("trial-without-end", merchant)
            ends = started + length
        elif started is not None and ends is not None and ends < started:
            findings.repaired("trial-ends-before-start", merchant)
            ends = started + length
        return Trial(False, started, ends)

    def _last_purchase(
        self, merchant: str, records: list[Row], times: Times, purchases: list[OldPurchase]
    ) -> datetime | None:
        """The last payment. The old total is held against the payments on the way."""
        paid = [purchase for purchase in purchases if purchase.status == "completed"]
        last = max((p.completed_at for p in paid if p.completed_at), default=None)
        if not records:
            return last
        total, credits = whole_of(records[0]["total_credits_purchased"]), credits_of(purchases)
        if total != credits:
            self._findings.total_differs(merchant, total, credits)
        newest = max(times["last_purchase_at"], default=None)
        if last is not None and (newest is None or newest < last):
            self._findings.repaired("last-purchase-behind", merchant)
            return last
        return newest

    def _times(self, merchant: str, records: list[Row], column: str) -> list[datetime]:
        found = []
        for row in records:
            text = row[column]
            moment = moment_of(text)
            if moment is not None:
                found.append(moment)
            elif text is not None:
                self._findings.repaired("time-unreadable", f"{merchant}: {column} {text}")
        return found


def _first(times: Times, *columns: str) -> datetime | None:
    """The first of these columns that has a time; of several records, the earliest."""
    return next((min(times[column]) for column in columns if times[column]), None)


def credits_of(purchases: Iterable[OldPurchase]) -> int:
    """The credits that were paid for."""
    return sum(purchase.credits for purchase in purchases if purchase.status == "completed")
