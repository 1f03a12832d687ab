"""The old database and this service, held against each other row by row."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from billing_stream.domain.commands import ImportMerchant, OldPurchase
from billing_stream.domain.model import Merchant, Purchase, PurchaseStatus
from billing_stream.migration.current_rows import CurrentRows
from billing_stream.migration.mapping import credits_of
from billing_stream.migration.old_database import PURCHASES, RECORDS
from billing_stream.tables import codecs

TOLERANCE = timedelta(minutes=10)
"""Times of the same payment, reported to two services, differ by this at most."""

PAID = (PurchaseStatus.COMPLETED, PurchaseStatus.REFUNDED)


class Difference(NamedTuple):
    """One thing that is otherwise here. `moved_on`: because something happened here since."""

    kind: str
    merchant: str
    purchase: str | None
    what: str
    there: str
    here: str
    moved_on: bool

    @property
    def identity(self) -> tuple[str, str, str | None, str]:
        """The same for the same difference in a later look."""
        return self.kind, self.merchant, self.purchase, self.what

    def line(self) -> str:
        """In one line."""
        about = f"purchase {self.purchase} of {self.merchant}" if self.purchase else self.merchant
        what = f" {self.what}:" if self.what else ":"
        return f"{about}{what} there {self.there}, here {self.here}"


class Checksum:
    """A count, and a sum over rows that does not depend on their order."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, *values: object) -> None:
        """Add a row."""
        line = "|".join(_text(value) for value in values).encode()
        self._sum += int.from_bytes(hashlib.blake2b(line, digest_size=16).digest())
        self.count += 1

    @property
    def text(self) -> str:
        """32 hex digits."""
        return f"{self._sum % (1 << 128):032x}"


class Comparison:
    """Takes the merchants of the old database; `finish` adds those that are only here."""

    def __init__(self, here: CurrentRows, now: datetime, tolerance: timedelta = TOLERANCE) -> None:
        self._here = here
        self._now = now
        self._tolerance = tolerance
        # Credits of the total that no purchase looked at so far explains.
        self._unexplained: Counter[str] = Counter()
        self._totals: dict[str, tuple[int, int]] = {}
        self.there = {RECORDS: Checksum(), PURCHASES: Checksum()}
        self.here = {RECORDS: Checksum(), PURCHASES: Checksum()}
        self.differences: list[Difference] = []

    def take(self, command: ImportMerchant) -> None:
        """Compare a merchant with its purchases."""
        merchant, total = command.merchant_id, credits_of(command.purchases)
        self.there[RECORDS].add(*_merchant_of_command(command, total))
        raw = self._here.merchants.pop(merchant, None)
        row = codecs.merchant.decode(raw) if raw is not None else None
        if row is None or row.created_at is None:
            self._add("only there", merchant, None, "", "a merchant", "none")
        else:
            self._merchant(command, row)
            self._total(merchant, total, row.total_credits_purchased)
        for purchase in command.purchases:
            self._purchase(merchant, purchase)

    def finish(self) -> None:
        """Those that are left are only here."""
        for raw in self._here.merchants.values():
            row = codecs.merchant.decode(raw)
            if row.created_at is not None:
                self.here[RECORDS].add(*_merchant_of_row(row))
                self._add("only here", row.merchant_id, None, "", "none", "a merchant", True)
        for raw in self._here.purchases.values():
            bought = codecs.purchase.decode(raw)
            self._count(bought)
            self._unexplained[bought.merchant_id] -= _granted(bought)
            status = self._status(bought.status, bought.expires_at)
            self._add("only here", bought.merchant_id, bought.id, "", "none", status, True)
        for merchant, (there, here) in self._totals.items():
            if there != here:
                explained = not self._unexplained[merchant]
                self._add("total", merchant, None, "credits", there, here, explained)

    def _total(self, merchant: str, there: int, here: int) -> None:
        self._totals[merchant] = (there, here)
        self._unexplained[merchant] += here - there

    def _merchant(self, command: ImportMerchant, row: Merchant) -> None:
        self.here[RECORDS].add(*_merchant_of_row(row))
        merchant = command.merchant_id
        if command.trial_available != row.trial_available:
            there, here = (
                "available" if available else "used"
                for available in (command.trial_available, row.trial_available)
            )
            self._add("trial", merchant, None, "", there, here, command.trial_available)
        elif not row.trial_available:
            for name in ("trial_started_at", "trial_ends_at"):
                there_at, here_at = getattr(command, name), getattr(row, name)
                if there_at != here_at:
                    self._add("trial", merchant, None, name, there_at, here_at)
        if command.created_at != row.created_at and row.created_at is not None:
            earlier = row.created_at < command.created_at
            there_at, here_at = command.created_at, row.created_at
            self._add("time", merchant, None, "created_at", there_at, here_at, earlier)
        last_there, last_here = command.last_purchase_at, row.last_purchase_at
        if last_there != last_here:
            later = last_here is not None and (last_there is None or last_here > last_there)
            near = later or self._is_near(last_there, last_here)
            self._add("time", merchant, None, "last_purchase_at", last_there, last_here, near)

    def _purchase(self, merchant: str, old: OldPurchase) -> None:
        status = self._status(PurchaseStatus(old.status), old.expires_at)
        self.there[PURCHASES].add(*_purchase(merchant, old, status))
        raw = self._here.purchases.pop(old.id, None)
        if raw is None:
            self._unexplained[merchant] += old.credits if old.status == "completed" else 0
            self._add("only there", merchant, old.id, "", status, "none")
            return
        row = codecs.purchase.decode(raw)
        self._count(row)
        there = old.credits if old.status == "completed" else 0
        self._unexplained[merchant] -= _granted(row) - there
        for what, mine, yours in _values(merchant, old, row):
            if mine != yours:
                self._add("value", merchant, old.id, what, mine, yours)
        here = self._status(row.status, row.expires_at)
        if status != here:
            self._add("status", merchant, old.id, "", status, here, _moved_on(status, here))
        elif here is PurchaseStatus.COMPLETED and old.completed_at != row.completed_at:
            near = self._is_near(old.completed_at, row.completed_at)
            times = old.completed_at, row.completed_at
            self._add("time", merchant, old.id, "completed_at", *times, near)

    def _count(self, row: Purchase) -> None:
        status = self._status(row.status, row.expires_at)
        self.here[PURCHASES].add(*_purchase(row.merchant_id, row, status))

    def _status(self, status: PurchaseStatus, expires_at: datetime) -> PurchaseStatus:
        """An overdue pending purchase counts as expired, published or not."""
        over = status is PurchaseStatus.PENDING and expires_at <= self._now
        return PurchaseStatus.EXPIRED if over else status

    def _is_near(self, there: datetime | None, here: datetime | None) -> bool:
        return there is not None and here is not None and abs(there - here) <= self._tolerance

    def _add(
        self,
        kind: str,
        merchant: str,
        purchase: str | None,
        what: str,
        there: object,
        here: object,
        moved_on: bool = False,
    ) -> None:
        found = Difference(kind, merchant, purchase, what, _text(there), _text(here), moved_on)
        self.differences.append(found)


def in_all(looks: Iterable[list[Difference]]) -> list[Difference]:
    """The differences of the last look that every look had."""
    *before, last = looks
    known = [{difference.identity for difference in look} for look in before]
    return [found for found in last if all(found.identity in look for look in known)]


def _moved_on(there: PurchaseStatus, here: PurchaseStatus) -> bool:
    """Whether events here can have led from the one status to the other."""
    return there is PurchaseStatus.PENDING or here in PAID


def _granted(row: Purchase) -> int:
    return row.credits - row.refunded_credits if row.status in PAID else 0


def _values(merchant: str, old: OldPurchase, row: Purchase) -> Iterator[tuple[str, object, object]]:
    yield "merchant_id", merchant, row.merchant_id
    yield "credits", old.credits, row.credits
    yield "amount", Decimal(old.amount), Decimal(row.amount)
    yield "platform", old.platform, row.platform
    yield "platform_charge_id", old.platform_charge_id, row.platform_charge_id
    yield "created_at", old.created_at, row.created_at
    yield "expires_at", old.expires_at, row.expires_at


def _merchant_of_command(command: ImportMerchant, total: int) -> Iterator[object]:
    yield command.merchant_id
    yield command.trial_available
    yield command.trial_started_at
    yield command.trial_ends_at
    yield total
    yield command.last_purchase_at
    yield command.created_at


def _merchant_of_row(row: Merchant) -> Iterator[object]:
    yield row.merchant_id
    yield row.trial_available
    yield row.trial_started_at
    yield row.trial_ends_at
    yield row.total_credits_purchased
    yield row.last_purchase_at
    yield row.created_at


def _purchase(
    merchant: str, one: OldPurchase | Purchase, status: PurchaseStatus
) -> Iterator[object]:
    yield one.id
    yield merchant
    yield one.credits
    yield Decimal(one.amount)
    yield status
    yield one.platform
    yield one.platform_charge_id
    yield one.created_at
    yield one.completed_at
    yield one.expires_at


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, datetime):
        return value.isoformat()
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)
