"""The rows of one partition, with the indexes that the rules need.

`PartitionRows` is what was committed. `StagedRows` is laid over it while a transaction is
made, so that memory never leads the log.
"""

from bisect import bisect_left, insort
from collections import ChainMap, Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from heapq import merge
from itertools import takewhile
from operator import attrgetter

from billing_stream.domain.catalogue import Versions
from billing_stream.domain.charges import NOTHING, Charge
from billing_stream.domain.model import Adjustment, Merchant, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import Decision, StoredResponse
from billing_stream.domain.reports import ParkedWebhook
from billing_stream.domain.shops import Shop
from billing_stream.tables.charge_rows import put_charges
from billing_stream.tables.shop_rows import put_shops

PENDING = PurchaseStatus.PENDING
Deadline = tuple[datetime, str]
_deadline_of = attrgetter("expires_at", "id")


def charge_key(merchant_id: str, charge_id: str) -> str:
    """The key of a merchant's charge in the charge index."""
    return f"{merchant_id}/{charge_id}"


def _waits(purchase: Purchase | None) -> Deadline | None:
    """The entry of a purchase among the pending ones, if it has one."""
    if purchase is None or purchase.status is not PENDING:
        return None
    return purchase.expires_at, purchase.id


class Pending:
    """Deadlines (expires_at, purchase) in order.

    A list that forgets its first entries from time to time only: of 250,000 that expire one after
    the other, each would move all the others.
    """

    __slots__ = ("_entries", "_start")

    def __init__(self) -> None:
        self._entries: list[Deadline] = []
        self._start = 0

    def __len__(self) -> int:
        return len(self._entries) - self._start

    def __iter__(self) -> Iterator[Deadline]:
        entries = self._entries
        return (entries[index] for index in range(self._start, len(entries)))

    def first(self) -> Deadline:
        """The soonest. Raises IndexError where it is empty."""
        return self._entries[self._start]

    def add(self, deadline: Deadline) -> None:
        """Add one."""
        insort(self._entries, deadline, lo=self._start)

    def drop(self, deadline: Deadline) -> None:
        """Take out one that is in it."""
        index = bisect_left(self._entries, deadline, lo=self._start)
        if index != self._start:
            del self._entries[index]
            return
        self._start += 1
        if self._start * 2 > len(self._entries):
            del self._entries[: self._start]
            self._start = 0


class PartitionRows:
    """The committed rows of one partition. Only the lane of the partition writes them."""

    def __init__(self) -> None:
        self.merchants: dict[str, Merchant] = {}
        self.purchases: dict[str, Purchase] = {}
        self.shops: dict[str, Shop] = {}
        self.stored_responses: dict[str, dict[str, StoredResponse]] = {}
        self.adjustments: dict[str, Adjustment] = {}
        # Dead letters that were sent again and carried out, with the record that was.
        self.redriven: dict[str, str] = {}
        self.trials: dict[str, str] = {}
        self.versions: Versions = ()
        self.charges: dict[str, Charge] = {}
        # Those of them that have webhooks waiting.
        self.unclaimed: dict[str, Charge] = {}
        # Whether all charges of this partition's purchases were registered.
        self.charges_filled = False
        # Of each merchant that has some: the webhooks that wait for their charge, oldest first.
        self.early: dict[str, tuple[ParkedWebhook, ...]] = {}
        self._charges: dict[str, str] = {}
        self._purchases_of: dict[str, list[str]] = {}
        self._pending: dict[str, Pending] = {}

    def merchant(self, merchant_id: str) -> Merchant | None:
        """The merchant's row, or None when nothing was ever heard of it."""
        return self.merchants.get(merchant_id)

    def purchase(self, purchase_id: str) -> Purchase | None:
        """The purchase with this id, of any merchant."""
        return self.purchases.get(purchase_id)

    def purchase_of_charge(self, merchant_id: str, charge_id: str) -> Purchase | None:
        """The merchant's purchase that this charge is attached to."""
        return self.purchase_at(charge_key(merchant_id, charge_id))

    def purchase_at(self, charge_key: str) -> Purchase | None:
        """The purchase at a key of the charge index."""
        found = self._charges.get(charge_key)
        return self.purchases[found] if found is not None else None

    def pending_count(self, merchant_id: str) -> int:
        """How many pending purchases the merchant has."""
        return len(self._pending.get(merchant_id, ()))

    def every_pending(self) -> Iterator[Purchase]:
        """All pending purchases of the partition; rows may change in between."""
        for merchant_id in list(self._pending):
            for _, purchase_id in list(self._pending.get(merchant_id, ())):
                yield self.purchases[purchase_id]

    def pending_until(self, merchant_id: str, moment: datetime) -> Iterable[Purchase]:
        """The merchant's pending purchases that expire at or before `moment`, soonest first."""
        pending = self._pending.get(merchant_id)
        if pending is None or pending.first()[0] > moment:
            return ()
        rows = (self.purchases[purchase_id] for _, purchase_id in pending)
        return takewhile(lambda purchase: purchase.expires_at <= moment, rows)

    def answer(self, merchant_id: str, key: str) -> StoredResponse | None:
        """The stored answer to an idempotency key."""
        answers = self.stored_responses.get(merchant_id)
        return answers.get(key) if answers else None

    def answers(self, merchant_id: str) -> Iterable[StoredResponse]:
        """The merchant's stored answers, oldest first."""
        return self.stored_responses.get(merchant_id, {}).values()

    def answer_count(self, merchant_id: str) -> int:
        """How many answers are stored for the merchant."""
        return len(self.stored_responses.get(merchant_id, ()))

    def adjustment(self, adjustment_id: str) -> Adjustment | None:
        """The adjustment with this id."""
        return self.adjustments.get(adjustment_id)

    def every_answer(self) -> Iterator[StoredResponse]:
        """All stored answers of the partition."""
        for answers in self.stored_responses.values():
            yield from answers.values()

    def purchases_of(self, merchant_id: str) -> list[Purchase]:
        """All purchases of the merchant, newest first."""
        purchases = self.purchases
        own = [purchases[purchase_id] for purchase_id in self._purchases_of.get(merchant_id, ())]
        # Nearly sorted already, and a restored partition is in another order.
        own.sort(key=lambda purchase: (purchase.created_at, purchase.id), reverse=True)
        return own

    def next_due(
        self, merchant_id: str, parked_for: timedelta, reminder: timedelta | None
    ) -> datetime | None:
        """When something of this merchant falls due next, or None when nothing will."""
        merchant = self.merchants.get(merchant_id)
        if merchant is None:
            return None
        due = merchant.trial_due(reminder)
        pending = self._pending.get(merchant_id)
        if pending is not None and (due is None or pending.first()[0] < due):
            due = pending.first()[0]
        if merchant.parked:
            parked = merchant.parked[0].at + parked_for
            due = parked if due is None else min(due, parked)
        return due

    def put_merchant(self, merchant: Merchant) -> None:
        """Add or replace a merchant."""
        self.merchants[merchant.merchant_id] = merchant
        if merchant.parked:
            self.early[merchant.merchant_id] = merchant.parked
        elif self.early:
            self.early.pop(merchant.merchant_id, None)

    def put_purchase(self, purchase: Purchase) -> None:
        """Add or replace a purchase, and its places in the indexes."""
        old = self.purchases.get(purchase.id)
        merchant_id = purchase.merchant_id
        self.purchases[purchase.id] = purchase
        if old is None:
            self._purchases_of.setdefault(merchant_id, []).append(purchase.id)
        charge = purchase.platform_charge_id
        if charge is not None and (old is None or old.platform_charge_id is None):
            self._charges[charge_key(merchant_id, charge)] = purchase.id
        before, after = _waits(old), _waits(purchase)
        if before != after:
            if before is not None:
                self._drop_pending(merchant_id, before)
            if after is not None:
                self._pending.setdefault(merchant_id, Pending()).add(after)

    def put_answer(self, answer: StoredResponse) -> None:
        """Store the answer to an idempotency key, as the newest."""
        answers = self.stored_responses.setdefault(answer.merchant_id, {})
        # A key that is used again leaves its old place: `answers` goes from the oldest on.
        answers.pop(answer.key, None)
        answers[answer.key] = answer

    def drop_answer(self, merchant_id: str, key: str) -> None:
        """Forget the answer to an idempotency key, if there is one."""
        answers = self.stored_responses.get(merchant_id)
        if answers is not None:
            answers.pop(key, None)
            if not answers:
                del self.stored_responses[merchant_id]

    def put_adjustment(self, adjustment: Adjustment) -> None:
        """Add an adjustment; none ever changes."""
        self.adjustments[adjustment.id] = adjustment

    def charge(self, key: str) -> Charge:
        """The row of a charge, by its key `platform:charge_id`."""
        return self.charges.get(key, NOTHING)

    def _drop_pending(self, merchant_id: str, deadline: Deadline) -> None:
        pending = self._pending[merchant_id]
        pending.drop(deadline)
        if not len(pending):
            del self._pending[merchant_id]


class StagedRows:
    """Changes of one transaction, laid over the committed rows and readable like them."""

    def __init__(self, base: PartitionRows) -> None:
        self._base = base
        self.merchants: dict[str, Merchant] = {}
        self.purchases: dict[str, Purchase] = {}
        self.answers_changed: dict[str, dict[str, StoredResponse | None]] = {}
        self.shops: dict[str, Shop | None] = {}
        self.adjustments: dict[str, Adjustment] = {}
        self.redriven: dict[str, str] = {}
        self.trials = ChainMap({}, base.trials)
        self.versions = base.versions
        self.unclaimed = base.unclaimed
        self.charges: dict[str, Charge] = {}
        self.charges_filled = base.charges_filled
        self._charges: dict[str, str] = {}
        self._opened: dict[str, list[str]] = {}
        # By how many the merchant has more pending purchases than are committed.
        self._more_open: Counter[str] = Counter()

    def merchant(self, merchant_id: str) -> Merchant | None:
        return self.merchants.get(merchant_id) or self._base.merchants.get(merchant_id)

    def purchase(self, purchase_id: str) -> Purchase | None:
        return self.purchases.get(purchase_id) or self._base.purchases.get(purchase_id)

    def purchase_of_charge(self, merchant_id: str, charge_id: str) -> Purchase | None:
        key = charge_key(merchant_id, charge_id)
        found = self._charges.get(key)
        if found is not None:
            return self.purchases[found]
        committed = self._base.purchase_at(key)
        return self.purchases.get(committed.id, committed) if committed is not None else None

    def pending_until(self, merchant_id: str, moment: datetime) -> Iterable[Purchase]:
        base = self._base.pending_until(merchant_id, moment)
        opened = self._opened.get(merchant_id)
        if not base and not opened:
            return ()
        return self._open_until(base, opened or (), moment)

    def pending_count(self, merchant_id: str) -> int:
        return self._base.pending_count(merchant_id) + self._more_open[merchant_id]

    def answer(self, merchant_id: str, key: str) -> StoredResponse | None:
        changed = self.answers_changed.get(merchant_id)
        if changed is not None and key in changed:
            return changed[key]
        return self._base.answer(merchant_id, key)

    def answers(self, merchant_id: str) -> Iterable[StoredResponse]:
        changed = self.answers_changed.get(merchant_id, {})
        for answer in self._base.answers(merchant_id):
            if answer.key not in changed:
                yield answer
        yield from (staged for staged in changed.values() if staged is not None)

    def answer_count(self, merchant_id: str) -> int:
        count = self._base.answer_count(merchant_id)
        for key, staged in self.answers_changed.get(merchant_id, {}).items():
            count += (staged is not None) - (self._base.answer(merchant_id, key) is not None)
        return count

    def adjustment(self, adjustment_id: str) -> Adjustment | None:
        return self.adjustments.get(adjustment_id) or self._base.adjustment(adjustment_id)

    def purchases_of(self, merchant_id: str) -> Iterable[Purchase]:
        """All purchases of the merchant, with staged ones."""
        staged = self.purchases
        own = [staged.get(p.id, p) for p in self._base.purchases_of(merchant_id)]
        return [*own, *(staged[opened] for opened in self._opened.get(merchant_id, ()))]

    def redriven_as(self, letter: str) -> str | None:
        """The place of the record that carried out this dead letter, or None."""
        return self.redriven.get(letter) or self._base.redriven.get(letter)

    def charge(self, key: str) -> Charge:
        """As `PartitionRows.charge`, with the staged changes."""
        return self.charges.get(key) or self._base.charge(key)

    def shop(self, key: str) -> Shop | None:
        """The row of the shop `platform:domain`, with staged changes."""
        return self.shops[key] if key in self.shops else self._base.shops.get(key)

    def add(self, decision: Decision) -> None:
        """Stage what a decision changed."""
        merchant = decision.merchant
        if merchant is None:
            return
        merchant_id = merchant.merchant_id
        self.merchants[merchant_id] = merchant
        for purchase in decision.purchases:
            committed = self._base.purchases.get(purchase.id)
            if committed is None and purchase.id not in self.purchases:
                self._opened.setdefault(merchant_id, []).append(purchase.id)
            before = self.purchases.get(purchase.id) or committed
            self._more_open[merchant_id] += bool(_waits(purchase)) - bool(_waits(before))
            self.purchases[purchase.id] = purchase
            charge = purchase.platform_charge_id
            if charge is not None and (committed is None or committed.platform_charge_id is None):
                self._charges[charge_key(merchant_id, charge)] = purchase.id
        if decision.forgotten or decision.answers:
            changed = self.answers_changed.setdefault(merchant_id, {})
            for key in decision.forgotten:
                changed[key] = None
            for answer in decision.answers:
                changed.pop(answer.key, None)
                changed[answer.key] = answer
        for adjustment in decision.adjustments:
            self.adjustments[adjustment.id] = adjustment

    def _open_until(
        self, base: Iterable[Purchase], opened: Iterable[str], moment: datetime
    ) -> Iterator[Purchase]:
        # Both in order, and a purchase never changes when it expires.
        staged = self.purchases
        mine = sorted((staged[purchase_id] for purchase_id in opened), key=_deadline_of)
        changed = (staged.get(purchase.id, purchase) for purchase in base)
        every = merge(changed, mine, key=_deadline_of)
        due = takewhile(lambda purchase: purchase.expires_at <= moment, every)
        return (purchase for purchase in due if purchase.status is PENDING)

    def apply(self) -> None:
        """Lay the changes into the committed rows, whole; after the transaction only."""
        base = self._base
        for merchant in self.merchants.values():
            base.put_merchant(merchant)
        for purchase in self.purchases.values():
            base.put_purchase(purchase)
        for merchant_id, changed in self.answers_changed.items():
            for key, answer in changed.items():
                if answer is None:
                    base.drop_answer(merchant_id, key)
                else:
                    base.put_answer(answer)
        for adjustment in self.adjustments.values():
            base.put_adjustment(adjustment)
        if self.shops:
            put_shops(base.shops, self.shops)
        if self.charges:
            put_charges(base, self.charges)
        base.charges_filled = self.charges_filled
        base.redriven.update(self.redriven)
        base.trials.update(self.trials.maps[0])
        base.versions = self.versions
