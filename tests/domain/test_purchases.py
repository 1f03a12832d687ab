"""Rules of a purchase."""

from datetime import timedelta

import pytest

from billing_stream.domain.commands import AttachCharge, FailPurchase, PassTime
from billing_stream.domain.outcomes import (
    CreditsPurchased,
    Done,
    ErrorCode,
    PurchaseExpired,
    PurchaseFailed,
    PurchaseOpened,
    PurchaseRefunded,
    Rejected,
)
from tests.support.world import M1, M2, NOW, World, kinds


@pytest.mark.parametrize(
    ("pack", "credits", "amount"),
    [("small", 100, "9.99"), ("medium", 500, "39.99"), ("large", 1000, "69.99")],
)
def test_a_reserved_purchase_is_pending_and_grants_nothing(
    pack: str, credits: int, amount: str
) -> None:
    world = World().created()

    decision = world.reserve(pack=pack)

    assert isinstance(decision.reply, PurchaseOpened)
    purchase = world.purchase(decision.reply.purchase_id)
    assert (purchase.credits, purchase.amount, purchase.status) == (credits, amount, "pending")
    assert purchase.expires_at == NOW + timedelta(hours=24)
    assert decision.events == ()
    assert world.merchant().total_credits_purchased == 0


def test_an_unknown_pack_is_refused_and_opens_nothing() -> None:
    world = World().created()

    decision = world.reserve(pack="gigantic")

    assert isinstance(decision.reply, Rejected)
    assert decision.reply.code is ErrorCode.INVALID_PACK
    assert world.rows.purchases == {}


def test_a_paid_purchase_grants_its_credits_once() -> None:
    world = World().created()
    purchase = world.charged(pack="medium")

    first = world.later(minutes=1).webhook("ACTIVE")
    again = world.later(minutes=1).webhook("ACTIVE")

    expected = CreditsPurchased(M1, purchase, 500, "39.99", "shopify")  # type: ignore[arg-type]
    assert [e.data for e in first.events] == [expected]
    assert (again.events, again.merchant) == ((), None)
    assert world.merchant().total_credits_purchased == 500
    assert world.merchant().last_purchase_at == NOW + timedelta(minutes=1)
    assert world.purchase(purchase).completed_at == NOW + timedelta(minutes=1)


def test_the_first_charge_of_a_purchase_stays() -> None:
    world = World().created()
    purchase = world.charged("first")

    other = world.attach(purchase, "second")
    same = world.attach(purchase, "first")

    assert isinstance(other.reply, Rejected)
    assert other.reply.code is ErrorCode.CHARGE_MISMATCH
    assert isinstance(same.reply, PurchaseOpened)
    assert same.merchant is None
    assert world.purchase(purchase).platform_charge_id == "first"


def test_a_charge_belongs_to_one_purchase() -> None:
    world = World().created()
    world.charged("charge")

    decision = world.attach(world.opened(), "charge")

    assert isinstance(decision.reply, Rejected)
    assert decision.reply.code is ErrorCode.CHARGE_MISMATCH


def test_another_merchants_purchase_is_as_good_as_none() -> None:
    world = World().created(M1, M2)
    purchase = world.opened(M1)

    attach = world.do(AttachCharge(M2, purchase, "charge", "https://pay.example"))
    fail = world.do(FailPurchase(M2, purchase, "no"))

    for decision in (attach, fail):
        assert isinstance(decision.reply, Rejected)
        assert decision.reply.code is ErrorCode.PURCHASE_NOT_FOUND
    assert world.purchase(purchase).status == "pending"


def test_a_purchase_that_is_not_paid_in_time_expires_once() -> None:
    world = World().created()
    purchase = world.charged()

    first = world.later(hours=24).do(PassTime(M1))
    again = world.later(hours=24).do(PassTime(M1))

    assert [e.data for e in first.events] == [PurchaseExpired(M1, purchase, "not paid in time")]
    assert again.merchant is None
    assert world.merchant().total_credits_purchased == 0


def test_several_purchases_expire_in_the_order_they_were_opened() -> None:
    world = World().created()
    opened = [world.later(minutes=1).opened() for _ in range(3)]

    decision = world.later(hours=25).do(PassTime(M1))

    assert [e.data.purchase_id for e in decision.events] == opened  # type: ignore[union-attr]


def test_a_platform_that_gives_no_checkout_fails_the_purchase_once() -> None:
    world = World().created()
    purchase = world.opened()

    first = world.do(FailPurchase(M1, purchase, "platform error"))
    again = world.do(FailPurchase(M1, purchase, "platform error"))

    assert first.reply == Done()
    assert [e.data for e in first.events] == [PurchaseFailed(M1, purchase, "platform error")]
    assert again.events == ()


def test_a_refund_takes_the_credits_off_once() -> None:
    world = World().created()
    purchase = world.charged()
    world.webhook("ACTIVE")

    first = world.refund()
    again = world.refund()

    assert [e.data for e in first.events] == [PurchaseRefunded(M1, purchase, 100, "9.99")]
    assert again.merchant is None
    assert world.purchase(purchase).status == "refunded"
    assert world.merchant().total_credits_purchased == 0


def test_a_refund_that_is_told_before_its_payment_comes_to_nothing_in_the_end() -> None:
    world = World().created()
    purchase = world.charged()

    refund = world.refund()
    late = world.webhook("ACTIVE")

    assert kinds(refund.events) == ["credits.purchased", "purchase.refunded"]
    assert late.merchant is None
    assert world.purchase(purchase).status == "refunded"
    assert world.merchant().total_credits_purchased == 0


def test_a_refunded_purchase_is_never_completed_again() -> None:
    world = World().created()
    world.charged()
    world.webhook("ACTIVE")
    world.refund()

    decision = world.webhook("ACTIVE")

    assert decision.events == ()
    assert world.merchant().total_credits_purchased == 0


def test_versions_and_sequences_have_no_gaps() -> None:
    world = World().created()
    decisions = [
        world.reserve(),
        world.attach(world.purchase(next(iter(world.rows.purchases))).id, "charge"),
        world.webhook("declined"),
        world.webhook("ACTIVE"),
        world.webhook("ACTIVE"),
        world.refund(),
    ]

    versions = [d.merchant.version for d in decisions if d.merchant]
    sequences = [e.sequence for d in decisions for e in d.events]
    assert versions == [2, 3, 4, 5, 6]
    assert sequences == [1, 2, 3]
