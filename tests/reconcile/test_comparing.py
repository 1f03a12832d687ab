"""Purchases held against their charges, without a broker."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from billing_stream.domain.model import Merchant, Platform, Purchase, PurchaseStatus
from billing_stream.errors import PlatformError
from billing_stream.migration.current_rows import CurrentRows
from billing_stream.ops.reconcile.comparing import Difference, Report, differences
from billing_stream.ops.reconcile.reconcile_run import NotWritten, ReconcileRun, RunOptions
from billing_stream.platforms.base import FoundCharge, PlatformEvent, PlatformEventKind
from billing_stream.platforms.platform_http import TryLater
from tests.support.platform import FakePlatform, MemoryIngress
from tests.web.conftest import M1, M2

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
PENDING, COMPLETED = PurchaseStatus.PENDING, PurchaseStatus.COMPLETED
EXPIRED, FAILED, REFUNDED = PurchaseStatus.EXPIRED, PurchaseStatus.FAILED, PurchaseStatus.REFUNDED


def purchase(number: int, status: PurchaseStatus, **changes: Any) -> Purchase:
    fields = {
        "id": f"22222222-2222-4222-8222-{number:012}",
        "merchant_id": M1,
        "credits": 100,
        "amount": "9.99",
        "status": status,
        "platform": Platform.SHOPIFY,
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=24),
        "platform_charge_id": f"c{number}",
        "currency": "USD",
    }
    return Purchase(**{**fields, **changes})


def charge(
    number: int, status: str | None, amount: str = "9.99", currency: str | None = "USD"
) -> FoundCharge:
    if status is None:
        return FoundCharge(amount=amount, currency=currency)
    event = PlatformEvent(
        kind=PlatformEventKind.UPDATED, charge_id=f"c{number}", status=status, merchant_id=M1
    )
    return FoundCharge.of(event, amount, currency)


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        *[(one, "ACTIVE", [Difference.NOT_CREDITED]) for one in (PENDING, EXPIRED, FAILED)],
        *[(one, "ACTIVE", []) for one in (COMPLETED, REFUNDED)],
        *[(one, "DECLINED", [Difference.NOT_PAID]) for one in (COMPLETED, REFUNDED)],
        *[(one, None, [Difference.NOT_PAID]) for one in (COMPLETED, REFUNDED)],
        *[(one, "DECLINED", []) for one in (PENDING, EXPIRED, FAILED)],
        *[(one, None, []) for one in (PENDING, EXPIRED, FAILED)],
    ],
)
def test_a_purchase_differs_where_money_and_credits_do(
    status: PurchaseStatus, said: str | None, expected: list[Difference]
) -> None:
    found = list(differences(purchase(1, status), charge(1, said)))

    assert [one.difference for one in found] == expected


@pytest.mark.parametrize(
    ("amount", "currency", "sold_in", "same"),
    [
        ("9.99", "USD", "USD", True),
        ("9.990", "USD", "USD", True),
        ("9.99", None, "USD", True),
        ("9.99", "USD", "", True),
        ("9.98", "USD", "USD", False),
        ("9.99", "EUR", "USD", False),
        ("999", "JPY", "USD", False),
        ("odd", "USD", "USD", False),
    ],
)
def test_an_amount_differs_by_its_number_or_currency(
    amount: str, currency: str | None, sold_in: str, same: bool
) -> None:
    sold = purchase(1, COMPLETED, currency=sold_in)

    found = list(differences(sold, charge(1, "ACTIVE", amount, currency)))

    assert [one.difference for one in found] == ([] if same else [Difference.AMOUNT])


class Scene:
    """Some purchases in the rows, a platform and the topics of webhooks."""

    def __init__(self, *purchases: Purchase) -> None:
        encode = msgspec.json.encode
        merchant = Merchant(merchant_id=M1, platform="shopify", domain="one.example")
        self.rows = CurrentRows({M1: encode(merchant)}, {p.id: encode(p) for p in purchases})
        self.platform = FakePlatform()
        self.platform.charges["another"] = FoundCharge()
        self.ingress = MemoryIngress()

    async def run(self, **options: Any) -> Report:
        asked = RunOptions(**{"since": NOW - timedelta(days=30), "concurrency": 3, **options})
        platforms: Any = {Platform.SHOPIFY: self.platform}
        return await ReconcileRun(self.rows, platforms, self.ingress, asked, lambda *_: None).run()


async def test_missed_payments_and_failures_are_sent_and_nothing_else() -> None:
    scene = Scene(
        *(
            purchase(n, s)
            for n, s in enumerate((PENDING, PENDING, EXPIRED, COMPLETED, FAILED, EXPIRED))
        )
    )
    said = ["ACTIVE", "DECLINED", "ACTIVE", "ACTIVE", "DECLINED", None]
    scene.platform.charges |= {f"c{n}": charge(n, word) for n, word in enumerate(said)}

    report = await scene.run()

    sent = sorted((r.data["charge_id"], r.data["status"]) for r in scene.ingress.records)
    assert sent == [("c0", "ACTIVE"), ("c1", "DECLINED"), ("c2", "ACTIVE")]
    assert (report.asked, report.sent, report.differs) == (6, 3, True)
    assert "paid and not credited: 2" in list(report.lines(20))


async def test_a_dry_run_sends_nothing() -> None:
    scene = Scene(purchase(1, PENDING))
    scene.platform.charges["c1"] = charge(1, "ACTIVE")

    report = await scene.run(dry_run=True)

    assert (report.sent, scene.ingress.records) == (1, [])


async def test_only_purchases_since_then_and_of_the_merchant_are_looked_up() -> None:
    old = purchase(1, PENDING, created_at=NOW - timedelta(days=31))
    theirs = purchase(2, PENDING, merchant_id=M2)
    scene = Scene(old, theirs, purchase(3, PENDING))

    await scene.run(merchant=M1)

    assert [query.charge_id for query in scene.platform.looked_up] == ["c3"]


async def test_purchases_that_cannot_be_looked_up_are_counted_with_the_reason() -> None:
    scene = Scene(
        purchase(1, PENDING, platform_charge_id=None),
        purchase(2, PENDING, platform=Platform.CUSTOM),
        purchase(3, PENDING),
        purchase(4, PENDING),
    )
    scene.platform.charges["c4"] = PlatformError("shopify refuses our credentials")

    report = await scene.run()

    assert dict(report.not_asked) == {
        "without a charge": 1,
        "custom cannot be asked with these settings": 1,
        "shopify does not know the charge": 1,
    }
    assert dict(report.errors) == {"shopify: shopify refuses our credentials": 1}
    assert report.differs


async def test_a_platform_that_is_busy_is_asked_again_when_it_says() -> None:
    scene = Scene(purchase(1, PENDING), purchase(2, PENDING, merchant_id=M1))
    busy = TryLater("shopify is busy", 0.2)
    scene.platform.charges |= {"c1": busy, "c2": busy}
    asyncio.get_running_loop().call_later(
        0.1, lambda: scene.platform.charges.update(c1=charge(1, "ACTIVE"), c2=charge(2, None))
    )

    report = await scene.run()

    assert (report.asked, report.sent, dict(report.errors)) == (2, 1, {})


@pytest.mark.parametrize("after", [None, 3_600.0])
async def test_a_platform_that_is_busy_for_long_is_an_error(after: float | None) -> None:
    scene = Scene(purchase(1, PENDING))
    scene.platform.charges["c1"] = TryLater("shopify is busy", after)

    report = await scene.run()

    assert dict(report.errors) == {"shopify: shopify is busy": 1}


async def test_a_record_that_kafka_does_not_take_ends_the_run() -> None:
    scene = Scene(purchase(1, PENDING))
    scene.platform.charges["c1"] = charge(1, "ACTIVE")
    scene.ingress.up = False

    with pytest.raises(NotWritten, match="Kafka has not acknowledged it"):
        await scene.run()
