"""Purchases held against what their platforms say of them."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from msgspec import Struct, field, to_builtins

from billing_stream.console.tables import table_lines
from billing_stream.domain.model import Purchase
from billing_stream.platforms.base import FoundCharge
from billing_stream.reconcile.charges import CREDITED

HEADS = ("purchase", "merchant", "status", "sold", "charged", "charge")


class Difference(StrEnum):
    """How a purchase and its charge differ."""

    NOT_CREDITED = "paid and not credited"
    NOT_PAID = "credited and not paid"
    AMOUNT = "amounts differ"


class Finding(Struct, frozen=True):
    """One purchase that differs from its charge; `charged` is what the platform says."""

    difference: Difference
    purchase_id: str
    merchant_id: str
    platform: str
    charge_id: str
    status: str
    sold: str
    charged: str


def differences(purchase: Purchase, found: FoundCharge) -> Iterator[Finding]:
    """What differs between a purchase and its charge."""
    credited = purchase.status in CREDITED
    if found.paid and not credited:
        yield _finding(Difference.NOT_CREDITED, purchase, found)
    if credited and not found.paid:
        yield _finding(Difference.NOT_PAID, purchase, found)
    if found.amount is not None and not _same_money(purchase, found):
        yield _finding(Difference.AMOUNT, purchase, found)


def _same_money(purchase: Purchase, found: FoundCharge) -> bool:
    # Rows of 0.5.x do not say their currency, and not every platform says that of a charge.
    if found.currency and purchase.currency and found.currency != purchase.currency:
        return False
    try:
        return Decimal(found.amount or "") == Decimal(purchase.amount)
    except InvalidOperation:
        return False


def _finding(difference: Difference, purchase: Purchase, found: FoundCharge) -> Finding:
    charged = f"{found.amount or '?'} {found.currency or ''}".strip()
    return Finding(
        difference,
        purchase.id,
        purchase.merchant_id,
        purchase.platform,
        purchase.platform_charge_id or "",
        purchase.status,
        f"{purchase.amount} {purchase.currency}".strip(),
        charged,
    )


def _cells(one: Finding) -> tuple[str, ...]:
    charge = f"{one.platform}:{one.charge_id}"
    return one.purchase_id, one.merchant_id, one.status, one.sold, one.charged, charge


class Report(Struct):
    """What a run found. `sent` counts records written; `errors` are of platforms."""

    asked: int = 0
    sent: int = 0
    undelivered: int = 0
    dry_run: bool = False
    findings: list[Finding] = field(default_factory=list)
    # By platform and why.
    not_asked: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def differs(self) -> bool:
        """Whether somebody should look at it."""
        return bool(self.findings or self.errors)

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        found: dict[str, Any] = to_builtins(self)
        return found

    def lines(self, shown_max: int) -> Iterator[str]:
        """For people; at most `shown_max` purchases of each difference."""
        yield f"looked up      {self.asked}"
        what = "to be sent" if self.dry_run else "sent"
        yield f"{what:14} {self.sent} records, {self.undelivered} of them undelivered events"
        for why, count in sorted(self.not_asked.items()):
            yield f"not looked up  {count}: {why}"
        for why, count in sorted(self.errors.items()):
            yield f"failed         {count}: {why}"
        for difference in Difference:
            found = [one for one in self.findings if one.difference is difference]
            yield f"{difference}: {len(found)}"
            if found:
                yield from table_lines(HEADS, map(_cells, found[:shown_max]))
            if len(found) > shown_max:
                yield f"... and {len(found) - shown_max} more: --show, or --json"
