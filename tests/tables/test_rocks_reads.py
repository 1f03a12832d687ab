"""Rows in RocksDB: what is fetched ahead and kept decoded is what was committed, and bounded."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from billing_stream.domain.model import Merchant, Platform, Policy, Purchase, PurchaseStatus
from billing_stream.errors import SettingsError
from billing_stream.processor import BillingProcessor, BillingStage
from billing_stream.records import topics
from billing_stream.records.schemas import encode
from billing_stream.records.topics import Topics
from billing_stream.tables.rocks.rocks_database import MIB, Budget, Database, Folder
from billing_stream.tables.rocks.rocks_store import RocksStore
from billing_stream.tables.rocks.row_cache import RowCache
from billing_stream.tables.store import MemoryStore, Store
from tests.support.partition import Record, record
from tests.support.world import NOW, everything


class Reads:
    """Counts what is asked of a database."""

    def __init__(self, db: Database, patch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._get, self._get_many = db.get, db.get_many
        patch.setattr(db, "get", self.get)
        patch.setattr(db, "get_many", self.get_many)

    def get(self, key: bytes) -> bytes | None:
        """As it is, and counted."""
        self.calls += 1
        return self._get(key)

    def get_many(self, wanted: list[bytes]) -> list[bytes | None]:
        """As it is, and counted once."""
        self.calls += 1
        return self._get_many(wanted)


def name(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def webhook(number: int) -> Record:
    """Completes the purchase with this number."""
    data = {"merchant_id": name(number), "charge_id": f"c{number}", "status": "ACTIVE"}
    return record(topics.PURCHASE_UPDATED, number, {"data": data})


def processor_of(store: Store) -> BillingProcessor:
    return BillingProcessor(
        0,
        partitions=1,
        policy=Policy(),
        names=Topics("test"),
        max_record_bytes=262_144,
        new_store=lambda _partition: store,
    )


def filled(store: Store, count: int) -> BillingProcessor:
    """Merchants, each with a pending purchase that has a charge; restored."""
    processor = processor_of(store)
    for number in range(count):
        merchant = Merchant(merchant_id=name(number), created_at=NOW, updated_at=NOW, version=1)
        purchase = Purchase(
            id=name(1_000_000 + number),
            merchant_id=name(number),
            credits=100,
            amount="9.99",
            status=PurchaseStatus.PENDING,
            platform=Platform.SHOPIFY,
            created_at=NOW,
            expires_at=NOW + timedelta(hours=24),
            platform_charge_id=f"c{number}",
        )
        processor.restore(topics.BILLING_RECORDS, [(name(number).encode(), encode(merchant))])
        processor.restore(topics.CREDIT_PURCHASES, [(purchase.id.encode(), encode(purchase))])
    processor.restored()
    return processor


def staged(processor: BillingProcessor, numbers: range) -> BillingStage:
    """A transaction with these webhooks, as a lane makes it; not applied."""
    records = [webhook(number) for number in numbers]
    stage = processor.begin()
    stage.prefetch(topics.PURCHASE_UPDATED, records)
    for each in records:
        assert stage.add_record(topics.PURCHASE_UPDATED, each)
    return stage


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    """Empty, with so little memory that decoded rows are few."""
    made = RocksStore(tmp_path / "0", Budget(16))
    yield made
    made.close()


def test_a_transaction_that_is_given_up_leaves_no_row_behind(store: RocksStore) -> None:
    processor = filled(store, 50)
    before = everything(processor.rows)
    given_up = list(staged(processor, range(50)).outgoing())

    assert everything(processor.rows) == before
    assert [processor.rows.merchant(name(n)) for n in range(50)] == [
        before[0][name(n)] for n in range(50)
    ]
    assert [
        processor.rows.purchase_of_charge(name(n), f"c{n}") == before[1][name(1_000_000 + n)]
        for n in range(50)
    ] == [True] * 50

    again = staged(processor, range(50))
    assert list(again.outgoing()) == given_up
    again.apply()
    assert all(row.total_credits_purchased == 100 for row in processor.rows.merchants.values())


def test_what_was_fetched_ahead_is_not_what_is_read_after_a_commit(store: RocksStore) -> None:
    processor = filled(store, 10)
    store.prefetch([name(1)], [f"{name(1)}/c1"], [name(1_000_001)])
    staged(processor, range(10)).apply()

    merchant = processor.rows.merchant(name(1))
    by_charge = processor.rows.purchase_of_charge(name(1), "c1")
    by_id = processor.rows.purchase(name(1_000_001))

    assert merchant is not None
    assert merchant.total_credits_purchased == 100
    assert by_charge is not None
    assert by_charge.status is PurchaseStatus.COMPLETED
    assert by_id == by_charge


def test_what_is_not_there_when_it_is_fetched_is_there_once_it_was_put(store: RocksStore) -> None:
    processor = processor_of(store)
    store.prefetch([name(1)], [f"{name(1)}/c1"], [name(1_000_001)])
    assert processor.rows.merchant(name(1)) is None

    row = Merchant(merchant_id=name(1), created_at=NOW, version=1)
    processor.rows.put_merchant(row)
    processor.rows.commit()

    assert processor.rows.merchant(name(1)) == row


def test_both_stores_decide_the_same_whatever_is_fetched_ahead(store: RocksStore) -> None:
    one, other = filled(store, 300), filled(MemoryStore(), 300)

    for numbers in (range(100), range(50, 150), range(140, 400)):
        left, right = staged(one, numbers), staged(other, numbers)
        assert list(left.outgoing()) == list(right.outgoing())
        left.apply()
        right.apply()
        assert everything(one.rows) == everything(other.rows)
    assert one.deadlines.first() == other.deadlines.first()


def test_a_transaction_reads_as_often_whatever_the_number_of_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for count in (10, 1_000):
        store = RocksStore(tmp_path / str(count), Budget(16))
        processor = filled(store, count)
        reads = Reads(store.rows.db, monkeypatch)
        stage = staged(processor, range(count))
        list(stage.outgoing())
        stage.apply()
        calls.append(reads.calls)
        store.close()

    assert calls[0] == calls[1]
    assert calls[0] <= 3


def test_memory_for_rows_stays_within_its_budget_however_many_there_are(tmp_path: Path) -> None:
    budget = Budget(16)
    store = RocksStore(tmp_path / "0", budget)
    processor = filled(store, 20_000)
    for start in range(0, 20_000, 1_000):
        staged(processor, range(start, start + 1_000)).apply()

    # Decoded rows: two generations, and what one transaction changed.
    limit = budget.hot_rows()
    assert max(len(store.rows.hot_merchants), len(store.rows.hot_purchases)) <= 2 * limit + 1_000
    assert budget.cache.get_usage() <= 16 * MIB
    assert sum(f.stat().st_size for f in tmp_path.rglob("*.sst")) > 0
    store.close()


def test_rows_that_were_not_used_for_long_go() -> None:
    hot: RowCache[int] = RowCache(lambda: 10)
    for number in range(1_000):
        hot.put(str(number), number)
        assert hot.get("0") == 0, "it is used all the time"
        assert len(hot) <= 20

    assert hot.get("1") is None
    assert hot.get("999") == 999


def test_two_workers_do_not_share_a_folder(tmp_path: Path) -> None:
    one, other = Folder(tmp_path), Folder(tmp_path)
    assert one.partition(0) != one.partition(1)

    with pytest.raises(SettingsError, match="in use by another worker"):
        other.partition(0)
