"""The rows of one partition in RocksDB, with the indexes that the rules need.

Everything can be found again in the changelogs, so nothing on the disk is trusted: a
partition begins with an empty database and is filled by restore. What is put becomes
readable at `commit`, all at once. Reads are dear when each is a call of its own: what a
transaction will read is fetched before (`prefetch`), and what it puts is compared with what was
there when all of it is known (`_settle`).
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from billing_stream.domain.model import Adjustment, Merchant, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import StoredResponse
from billing_stream.tables.rocks import keys, packed
from billing_stream.tables.rocks.prefetched_rows import PrefetchedRows
from billing_stream.tables.rocks.rocks_database import Budget, Database
from billing_stream.tables.rocks.rocks_views import (
    Adjustments,
    AnswersByMerchant,
    Merchants,
    Purchases,
    Texts,
)
from billing_stream.tables.rocks.row_cache import RowCache
from billing_stream.tables.rocks.stored_merchant import NEVER, StoredMerchant, unpack
from billing_stream.tables.rows import charge_key

PENDING = PurchaseStatus.PENDING


def _waits(purchase: Purchase | None) -> int | None:
    """Under which time a purchase is among the pending ones, if it is."""
    if purchase is None or purchase.status is not PENDING:
        return None
    return keys.micros(purchase.expires_at)


class RocksRows:
    """The committed rows of one partition, as `tables.rows.PartitionRows` has them."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self.db = Database(path, budget)
        self.hot_merchants: RowCache[StoredMerchant] = RowCache(budget.hot_rows)
        self.hot_purchases: RowCache[Purchase] = RowCache(budget.hot_rows)
        self._ahead = PrefetchedRows(self.db)
        # What was put since the last commit, and has yet to find its places in the indexes.
        self._unsettled_merchants: dict[str, Merchant] = {}
        self._unsettled_purchases: dict[str, Purchase] = {}
        # What was changed since the last commit.
        self._changed: dict[str, StoredMerchant] = {}
        self._put_purchases: dict[str, Purchase] = {}
        self._put_answers: dict[bytes, tuple[int, StoredResponse] | None] = {}
        self._waiting_changed: dict[str, list[tuple[bytes, bool]]] = {}
        self.merchants = Merchants(self)
        self.purchases = Purchases(self)
        self.adjustments = Adjustments(self)
        self.stored_responses = AnswersByMerchant(self)
        self.shops = Texts(self.db, keys.SHOP)
        self.redriven = Texts(self.db, keys.REDRIVEN)

    # -- read

    def prefetch(
        self, merchants: Collection[str], charges: Collection[str], purchases: Collection[str]
    ) -> None:
        """Fetch what will be read before the next commit, and is not at hand."""
        ahead, heads, hot = self._ahead, self.hot_merchants, self.hot_purchases
        ahead.fetch(
            [m for m in merchants if m not in ahead.heads and heads.get(m) is None],
            [c for c in charges if c not in ahead.charges],
            [p for p in purchases if p not in ahead.purchases and hot.get(p) is None],
        )

    def head(self, merchant_id: str) -> StoredMerchant | None:
        """What is stored for the merchant, or None."""
        if self._unsettled_purchases or self._unsettled_merchants:
            self._settle()
        ahead = self._ahead.heads
        head = self._changed.get(merchant_id) or ahead.get(merchant_id)
        if head is None:
            head = self.hot_merchants.get(merchant_id)
        if head is not None or merchant_id in ahead:
            return head
        value = self.db.get(keys.MERCHANT + merchant_id.encode())
        if value is None:
            return None
        head = unpack(value)
        self.hot_merchants.put(merchant_id, head)
        return head

    def merchant(self, merchant_id: str) -> Merchant | None:
        """The merchant's row, or None when nothing was ever heard of it."""
        head = self._ahead.heads.get(merchant_id) or self.head(merchant_id)
        return None if head is None else head.merchant

    def purchase(self, purchase_id: str) -> Purchase | None:
        """The purchase with this id, whoever's it is."""
        found = self._put_purchases.get(purchase_id) or self.hot_purchases.get(purchase_id)
        if found is not None:
            return found
        if purchase_id in self._ahead.purchases:
            return self._ahead.purchases[purchase_id]
        value = self.db.get(keys.PURCHASE + purchase_id.encode())
        if value is not None and value.startswith(keys.ELSEWHERE):
            value = self.db.get(keys.of_charge(value[1:].decode()))
        if value is None:
            return None
        found = packed.purchase(value)
        self.hot_purchases.put(purchase_id, found)
        return found

    def purchase_of_charge(self, merchant_id: str, charge_id: str) -> Purchase | None:
        """The merchant's purchase that this charge is attached to."""
        return self.purchase_at(charge_key(merchant_id, charge_id))

    def purchase_at(self, charge_key: str) -> Purchase | None:
        """The purchase at a key of the charge index."""
        if charge_key in self._ahead.charges:
            return self._ahead.charges[charge_key]
        value = self.db.get(keys.of_charge(charge_key))
        if value is None:
            return None
        found = packed.purchase(value)
        self.hot_purchases.put(found.id, found)
        return found

    def pending(self, merchant_id: str) -> list[tuple[datetime, str]]:
        """The merchant's pending purchases as (expires_at, id), soonest first."""
        prefix = keys.of_merchant(keys.WAITING, merchant_id)
        size = len(prefix)
        return [
            (keys.moment(keys.number_of(key, size)), key[size + keys.TIME_BYTES :].decode())
            for key in self.db.keys(prefix)
        ]

    def pending_until(self, merchant_id: str, moment: datetime) -> Iterable[Purchase]:
        """The merchant's pending purchases that expire at or before `moment`, soonest first."""
        head = self.head(merchant_id)
        if head is None or not head.waiting:
            return ()
        until = keys.micros(moment)
        if head.waits_from > until:
            return ()
        return self._waiting_until(merchant_id, head.waits_from, until)

    def pending_count(self, merchant_id: str) -> int:
        """How many pending purchases the merchant has."""
        head = self.head(merchant_id)
        return 0 if head is None else head.waiting

    def answer(self, merchant_id: str, key: str) -> StoredResponse | None:
        """The stored answer to an idempotency key."""
        found = self._stored_answer(keys.of_merchant(keys.ANSWER, merchant_id) + key.encode())
        return None if found is None else found[1]

    def answers(self, merchant_id: str) -> Iterator[StoredResponse]:
        """The merchant's stored answers, oldest first."""
        if not self.answer_count(merchant_id):
            return
        own = keys.of_merchant(keys.ANSWER, merchant_id)
        for _, key in self.db.items(keys.of_merchant(keys.IN_TURN, merchant_id)):
            found = self._stored_answer(own + key)
            if found is not None:
                yield found[1]

    def answer_count(self, merchant_id: str) -> int:
        """How many answers are stored for the merchant."""
        head = self.head(merchant_id)
        return 0 if head is None else head.answers

    def adjustment(self, adjustment_id: str) -> Adjustment | None:
        """The adjustment with this id."""
        value = self.db.get(keys.ADJUSTMENT + adjustment_id.encode())
        return None if value is None else packed.adjustment(value)

    def every_answer(self) -> Iterator[StoredResponse]:
        """All stored answers of the partition."""
        for answers in self.stored_responses.values():
            yield from answers.values()

    def purchases_of(self, merchant_id: str) -> list[Purchase]:
        """All purchases of the merchant, newest first."""
        return [self.purchases[purchase_id] for purchase_id in self._newest(merchant_id)]

    def purchases_page(self, merchant_id: str, skip: int, take: int) -> tuple[list[Purchase], int]:
        """`take` purchases of the merchant after the newest `skip`, and how many it has."""
        page = []
        for place, purchase_id in enumerate(self._newest(merchant_id)):
            if place >= skip + take:
                break
            if place >= skip:
                page.append(self.purchases[purchase_id])
        head = self.head(merchant_id)
        return page, 0 if head is None else head.purchases

    def next_due(self, merchant_id: str, parked_for: timedelta) -> datetime | None:
        """When something of this merchant falls due next, or None when nothing will.

        It can be told too early where a deadline is set that is no later.
        """
        head = self.head(merchant_id)
        merchant = None if head is None else head.merchant
        if head is None or merchant is None:
            return None
        due = NEVER
        trial = merchant.trial_due()
        if trial is not None:
            due = keys.micros(trial)
        if merchant.parked:
            due = min(due, keys.micros(merchant.parked[0].at + parked_for))
        if head.waiting and head.waits_from < due:
            if not head.exact and head.due > head.waits_from:
                head.waits_from = self._first_waiting(merchant_id)
                head.exact = True
            due = min(due, head.waits_from)
        return None if due == NEVER else keys.moment(due)

    # -- write

    def put_merchant(self, merchant: Merchant) -> None:
        """Add or replace a merchant."""
        self._unsettled_merchants[merchant.merchant_id] = merchant

    def put_purchase(self, purchase: Purchase) -> None:
        """Add or replace a purchase, and its places in the indexes."""
        self._unsettled_purchases[purchase.id] = purchase

    def _settle(self) -> None:
        """Give all that was put its places in the indexes, whose changes are then put too."""
        merchants, purchases = self._unsettled_merchants, self._unsettled_purchases
        if not merchants and not purchases:
            return
        self._unsettled_merchants, self._unsettled_purchases = {}, {}
        owners = {purchase.merchant_id for purchase in purchases.values()}
        self.prefetch(
            [m for m in owners.union(merchants) if m not in self._changed],
            (),
            [p for p in purchases if p not in self._put_purchases],
        )
        for merchant_id, merchant in merchants.items():
            self.change(merchant_id).merchant = merchant
        for purchase in purchases.values():
            self._settle_purchase(purchase)

    def _settle_purchase(self, purchase: Purchase) -> None:
        db, merchant_id = self.db, purchase.merchant_id
        old = self.purchase(purchase.id)
        head = self.change(merchant_id)
        name = purchase.id.encode()
        if old is None:
            head.purchases += 1
            created = keys.ordered(keys.micros(purchase.created_at))
            db.put(keys.of_merchant(keys.BY_AGE, merchant_id) + created + name, b"")
        charge = purchase.platform_charge_id
        if charge is None:
            db.put(keys.PURCHASE + name, packed.pack(purchase))
        else:
            # A charge belongs to one purchase, which keeps it.
            place = charge_key(merchant_id, charge)
            db.put(keys.of_charge(place), packed.pack(purchase))
            if old is None or old.platform_charge_id is None:
                db.put(keys.PURCHASE + name, keys.ELSEWHERE + place.encode())
        before, after = _waits(old), _waits(purchase)
        if before != after:
            if before is not None:
                self._put_waiting(head, merchant_id, before, name, waits=False)
            if after is not None:
                self._put_waiting(head, merchant_id, after, name, waits=True)
        self._put_purchases[purchase.id] = purchase

    def put_answer(self, answer: StoredResponse) -> None:
        """Store the answer to an idempotency key, as the newest."""
        merchant_id = answer.merchant_id
        self.drop_answer(merchant_id, answer.key)
        head = self.change(merchant_id)
        head.answers += 1
        turn, head.turn = head.turn, head.turn + 1
        key, place = answer.key.encode(), keys.ordered(turn)
        own = keys.of_merchant(keys.ANSWER, merchant_id) + key
        self.db.put(own, place + packed.pack(answer))
        self.db.put(keys.of_merchant(keys.IN_TURN, merchant_id) + place, key)
        self._put_answers[own] = turn, answer

    def drop_answer(self, merchant_id: str, key: str) -> None:
        """Forget the answer to an idempotency key, if there is one."""
        own = keys.of_merchant(keys.ANSWER, merchant_id) + key.encode()
        stored = self._stored_answer(own)
        if stored is None:
            return
        self.change(merchant_id).answers -= 1
        self.db.delete(own)
        self.db.delete(keys.of_merchant(keys.IN_TURN, merchant_id) + keys.ordered(stored[0]))
        self._put_answers[own] = None

    def put_adjustment(self, adjustment: Adjustment) -> None:
        """Add an adjustment; none ever changes."""
        self.db.put(keys.ADJUSTMENT + adjustment.id.encode(), packed.pack(adjustment))

    def put_shop(self, shop: str, merchant_id: str | None) -> None:
        """Say whose shop `platform:domain` is; None: nobody's."""
        if merchant_id is None:
            del self.shops[shop]
        else:
            self.shops[shop] = merchant_id

    def change(self, merchant_id: str) -> StoredMerchant:
        """What is stored for the merchant, to be changed and written at `commit`."""
        head = self._changed.get(merchant_id)
        if head is None:
            head = self.head(merchant_id) or StoredMerchant()
            self._changed[merchant_id] = head
        return head

    def without_deadline(self) -> list[str]:
        """The merchants changed since the last commit: what is due of them may have changed."""
        self._settle()
        return list(self._changed)

    def commit(self) -> None:
        """Make what was put readable, all of it at once."""
        self._settle()
        put = self.db.put
        for merchant_id, head in self._changed.items():
            put(keys.MERCHANT + merchant_id.encode(), head.pack())
        self.db.write()
        self._ahead.clear()
        self.hot_merchants.update(self._changed)
        self.hot_purchases.update(self._put_purchases)
        self._changed = {}
        self._put_purchases = {}
        self._put_answers = {}
        self._waiting_changed = {}

    def close(self) -> None:
        """Let go of memory and files; what is on the disk is deleted."""
        self.db.close()

    def _newest(self, merchant_id: str) -> Iterator[str]:
        prefix = keys.of_merchant(keys.BY_AGE, merchant_id)
        start = len(prefix) + keys.TIME_BYTES
        return (key[start:].decode() for key in self.db.keys_down(prefix))

    def _waiting_until(self, merchant_id: str, first: int, until: int) -> Iterator[Purchase]:
        prefix = keys.of_merchant(keys.WAITING, merchant_id)
        size = len(prefix)
        for key in self.db.keys(prefix, prefix + keys.ordered(first)):
            if keys.number_of(key, size) > until:
                return
            yield self.purchases[key[size + keys.TIME_BYTES :].decode()]

    def _put_waiting(
        self, head: StoredMerchant, merchant_id: str, expires: int, name: bytes, *, waits: bool
    ) -> None:
        key = keys.of_merchant(keys.WAITING, merchant_id) + keys.ordered(expires) + name
        self._waiting_changed.setdefault(merchant_id, []).append((key, waits))
        if waits:
            if not head.waiting or expires < head.waits_from:
                head.waits_from = expires
                head.exact = True
            head.waiting += 1
            self.db.put(key, b"")
        else:
            head.waiting -= 1
            # The next one is looked up when somebody must know.
            head.exact = head.exact and expires != head.waits_from
            self.db.delete(key)

    def _first_waiting(self, merchant_id: str) -> int:
        """When the first of the merchant's pending purchases expires, not yet committed too."""
        prefix = keys.of_merchant(keys.WAITING, merchant_id)
        changed = dict(self._waiting_changed.get(merchant_id, ()))
        found = [key for key, waits in changed.items() if waits]
        # What is stored and was dropped since is skipped, the rest is in order. What expired in
        # transactions before leaves its marks in the files for a while: begin after them.
        stored = self.db.keys(prefix, prefix + keys.ordered(self.change(merchant_id).waits_from))
        found += next(([key] for key in stored if key not in changed), [])
        return min((keys.number_of(key, len(prefix)) for key in found), default=NEVER)

    def _stored_answer(self, own: bytes) -> tuple[int, StoredResponse] | None:
        if own in self._put_answers:
            return self._put_answers[own]
        value = self.db.get(own)
        if value is None:
            return None
        return keys.number_of(value, 0), packed.answer(value[keys.TIME_BYTES :])
