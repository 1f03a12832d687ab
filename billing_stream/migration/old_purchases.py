"""Rows of purchases to purchases: each repaired by a rule with a name, or rejected."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, cast

from msgspec.structs import replace

from billing_stream.domain.commands import OldPurchase
from billing_stream.domain.model import Platform
from billing_stream.domain.policy import Policy
from billing_stream.migration import values
from billing_stream.migration.findings import Findings
from billing_stream.migration.old_database import PURCHASES, Row

STATUSES = ("pending", "completed", "failed", "expired")


class PurchaseReader:
    """Reads the purchases of one merchant after the other."""

    def __init__(
        self, policy: Policy, findings: Findings, duplicate_purchase_ids: frozenset[str]
    ) -> None:
        self._expiry, self._currency = policy.purchase_expiry, policy.currency
        self._prices = {
            pack.credits: price
            for pack in policy.packs.values()
            if (price := pack.prices.get(policy.currency)) is not None
        }
        self._findings = findings
        self._ids_of_many = duplicate_purchase_ids
        self._seen: dict[str, tuple[Any, ...]] = {}

    def read(self, rows: Iterable[Row], came: datetime | None) -> list[OldPurchase]:
        """What can be used, oldest first. `came` is when the merchant did, as far as is known."""
        found = [purchase for row in rows if (purchase := self._read(row, came)) is not None]
        return self._charges_once(found)

    def reject(self, row: Row, reason: str) -> None:
        """The row cannot be used; what was paid for it is counted."""
        credits = values.whole_of(row["credits"])
        if credits and credits > 0 and (row["status"] or "").strip().lower() == "completed":
            self._findings.rejected_credits += credits
        self._findings.rejected(PURCHASES, reason, row)

    def _read(self, row: Row, came: datetime | None) -> OldPurchase | None:
        purchase_id = values.uuid_of(row["id"])
        status = (row["status"] or "").strip().lower()
        credits = values.whole_of(row["credits"])
        reason = None
        if purchase_id is None:
            reason = "purchase-no-uuid"
        elif self._is_known(purchase_id, row):
            return None
        elif status not in STATUSES:
            reason = "status-unknown"
        elif credits is None or not 0 < credits <= values.CREDITS_MAX:
            reason = "credits-unusable"
        if reason is not None or purchase_id is None or credits is None:
            self.reject(row, reason or "purchase-no-uuid")
            return None
        amount = self._amount(purchase_id, row, credits)
        if amount is None:
            self.reject(row, "amount-unusable")
            return None
        paid_at, expires_at = (self._time(row, name) for name in ("completed_at", "expires_at"))
        created_at = self._created_at(row, paid_at, expires_at, came)
        if created_at is None:
            self.reject(row, "purchase-no-time")
            return None
        if expires_at is None:
            self._findings.repaired("purchase-without-expiry", purchase_id)
            expires_at = created_at + self._expiry
        self._note_spelling("status-spelling", purchase_id, row["status"], status)
        return OldPurchase(
            id=purchase_id,
            credits=credits,
            amount=amount,
            status=cast(Any, status),
            platform=self._platform(purchase_id, row["platform"]),
            created_at=created_at,
            expires_at=expires_at,
            platform_charge_id=self._charge(purchase_id, row["platform_charge_id"]),
            completed_at=self._paid_at(purchase_id, status, paid_at, created_at),
            currency=self._currency,
        )

    def _is_known(self, purchase_id: str, row: Row) -> bool:
        """Whether another row with this id came before; it is noted, or rejected."""
        if purchase_id not in self._ids_of_many:
            return False
        said = tuple(value for value in row.values())
        first = self._seen.setdefault(purchase_id, said)
        if first is said:
            return False
        if first == said:
            self._findings.repaired("purchase-twice", purchase_id)
        else:
            self.reject(row, "purchase-of-two")
        return True

    def _created_at(
        self, row: Row, paid_at: datetime | None, expires_at: datetime | None, came: datetime | None
    ) -> datetime | None:
        recorded = self._time(row, "created_at")
        if recorded is not None:
            return recorded
        found = paid_at or (expires_at - self._expiry if expires_at else came)
        if found is not None:
            self._findings.repaired("purchase-without-time", row["id"])
        return found

    def _paid_at(
        self, purchase_id: str, status: str, paid_at: datetime | None, created_at: datetime
    ) -> datetime | None:
        if status == "completed":
            if paid_at is None:
                self._findings.repaired("payment-without-time", purchase_id)
            return paid_at or created_at
        if paid_at is not None:
            self._findings.repaired("payment-time-unpaid", purchase_id)
        return None

    def _amount(self, purchase_id: str, row: Row, credits: int) -> str | None:
        text = row["amount"]
        if text is None or not text.strip():
            price = self._prices.get(credits)
            if price is not None:
                self._findings.repaired("amount-missing", purchase_id)
            return price
        amount = values.amount_of(text, self._currency)
        if amount is not None and amount != text:
            self._findings.repaired("amount-rounded", f"{purchase_id}: {text}")
        return amount

    def _platform(self, purchase_id: str, text: str | None) -> Platform:
        word = (text or "").strip().lower()
        if word not in list(Platform):
            self._findings.repaired("platform-unknown", f"{purchase_id}: {text}")
            return Platform.CUSTOM
        self._note_spelling("platform-spelling", purchase_id, text, word)
        return Platform(word)

    def _charge(self, purchase_id: str, text: str | None) -> str | None:
        charge = values.charge_of(text)
        if text is not None and charge != text:
            blank = not text.strip() or charge is not None
            rule = "charge-spelling" if blank else "charge-unusable"
            self._findings.repaired(rule, f"{purchase_id}: {text[:60]!r}")
        return charge

    def _note_spelling(self, rule: str, purchase_id: str, text: str | None, word: str) -> None:
        """The old service wrote statuses in capitals, platforms small."""
        if text not in (word, word.upper()):
            self._findings.repaired(rule, f"{purchase_id}: {text!r}")

    def _time(self, row: Row, column: str) -> datetime | None:
        text = row[column]
        moment = values.moment_of(text)
        if moment is None and text is not None:
            self._findings.repaired("time-unreadable", f"{row['id']}: {column} {text}")
        return moment

    def _charges_once(self, purchases: list[OldPurchase]) -> list[OldPurchase]:
        """A charge pays for one purchase: the paid one of two, else the older keeps it."""
        owner: dict[str, str] = {}
        for purchase in sorted(purchases, key=lambda p: (p.status != "completed", p.created_at)):
            if purchase.platform_charge_id is not None:
                owner.setdefault(purchase.platform_charge_id, purchase.id)
        kept = []
        for purchase in purchases:
            charge = purchase.platform_charge_id
            if charge is not None and owner[charge] != purchase.id:
                self._findings.repaired("charge-twice", f"{purchase.id}: {charge}")
                purchase = replace(purchase, platform_charge_id=None)
            kept.append(purchase)
        return kept
