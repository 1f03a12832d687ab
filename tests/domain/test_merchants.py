"""Rules of the billing record."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from billing_stream.domain.commands import (
    AdvanceTime,
    AttachCharge,
    Command,
    CreateMerchant,
    FailPurchase,
    ReservePurchase,
    StartTrial,
)
from billing_stream.domain.model import Merchant, Platform
from billing_stream.domain.outcomes import Done, ErrorCode, ShopRegistered
from tests.support.world import M1, M2, NOBODY, NOW, World, code_of, writes_nothing


def test_installed_merchant_has_a_default_record_and_a_registered_shop() -> None:
    world = World()

    decision = world.do(CreateMerchant(M1, "Shopify", "Anna.Example"))

    assert decision.reply == Done()
    assert decision.events == ()
    assert decision.shops == (ShopRegistered("shopify", "anna.example", M1),)
    assert world.merchant() == Merchant(
        merchant_id=M1,
        platform="shopify",
        domain="anna.example",
        trial_available=True,
        trial_started_at=None,
        trial_ends_at=None,
        total_credits_purchased=0,
        last_purchase_at=None,
        created_at=NOW,
        updated_at=NOW,
        version=1,
    )
    assert world.rows.purchases_of(M1) == []


@pytest.mark.parametrize("domain", ["1111.example", "1111.EXAMPLE"])
def test_a_second_creation_changes_nothing(domain: str) -> None:
    world = World().on_trial()
    world.paid()
    before = world.everything()

    decision = world.later(hours=1).do(CreateMerchant(M1, "shopify", domain))

    assert decision.reply == Done()
    assert writes_nothing(decision)
    assert world.everything() == before


@pytest.mark.parametrize(
    ("platform", "domain"), [("shopify", "new.example"), ("stripe", "1111.example")]
)
def test_a_changed_shop_is_registered_and_the_old_one_noted(platform: str, domain: str) -> None:
    world = World().on_trial()
    purchase = world.paid()
    before, bought = world.merchant(), world.purchase(purchase)

    decision = world.later(hours=1).do(CreateMerchant(M1, platform, domain))

    assert decision.reply == Done()
    assert decision.events == ()
    assert decision.shops == (ShopRegistered(platform, domain, M1),)
    assert world.merchant() == replace(
        before,
        platform=platform,
        domain=domain,
        former_shops=("shopify:1111.example",),
        updated_at=NOW + timedelta(hours=1),
        version=before.version + 1,
    )
    assert world.purchase(purchase) == bought


def test_a_shop_that_moves_back_is_registered_again() -> None:
    world = World().created()
    world.do(CreateMerchant(M1, "shopify", "new.example"))

    decision = world.do(CreateMerchant(M1, "shopify", "1111.example"))

    assert decision.shops == (ShopRegistered("shopify", "1111.example", M1),)
    assert world.merchant().created_at == NOW


def test_one_merchant_has_nothing_to_do_with_another() -> None:
    world = World().on_trial(M1)
    world.paid(merchant=M1)
    before = world.merchant(M1)

    world.later(hours=1).created(M2)
    world.paid(merchant=M2)

    assert world.merchant(M1) == before
    assert world.merchant(M2).trial_available
    assert world.merchant(M2).sequence == 1


@pytest.mark.parametrize(
    "command",
    [
        StartTrial(NOBODY),
        StartTrial(NOBODY, "key"),
        ReservePurchase(NOBODY, "small", Platform.SHOPIFY),
        ReservePurchase(NOBODY, "gigantic", Platform.SHOPIFY, "/", "key"),
        AttachCharge(NOBODY, M1, "charge", "https://pay.example"),
        FailPurchase(NOBODY, M1, "no checkout"),
    ],
)
def test_a_command_for_an_unknown_merchant_is_refused_and_changes_nothing(
    command: Command,
) -> None:
    world = World().created(M1)
    before = world.everything()

    decision = world.do(command)

    assert code_of(decision) is ErrorCode.MERCHANT_NOT_FOUND
    assert writes_nothing(decision)
    assert world.everything() == before


def test_a_refusal_for_want_of_the_merchant_leaves_the_key_free() -> None:
    world = World()
    world.do(StartTrial(M1, "key"))

    decision = world.created().do(StartTrial(M1, "key"))

    assert code_of(decision) is None
    assert not world.merchant().trial_available


def test_time_alone_changes_nothing_when_nothing_is_due() -> None:
    world = World().on_trial()
    before = world.everything()

    for merchant in (M1, NOBODY):
        decision = world.later(days=1).do(AdvanceTime(merchant))

        assert decision.reply == Done()
        assert writes_nothing(decision)
    assert world.everything() == before


def test_a_merchant_only_heard_of_is_not_created() -> None:
    world = World()
    world.webhook("ACTIVE")
    before = world.everything()

    decision = world.do(StartTrial(M1))

    assert code_of(decision) is ErrorCode.MERCHANT_NOT_FOUND
    assert writes_nothing(decision)
    assert world.everything() == before
    assert world.merchant().created_at is None


def test_a_webhook_may_come_before_its_merchant() -> None:
    world = World()
    world.webhook("ACTIVE")
    world.later(hours=1).created()

    purchase = world.charged()

    assert world.purchase(purchase).status == "completed"
    assert world.merchant().total_credits_purchased == 100
    assert world.merchant().created_at == NOW + timedelta(hours=1)
    assert world.merchant().parked == ()
