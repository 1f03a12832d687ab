"""A merchant is forgotten: what is personal goes, the money trail stays."""

from msgspec.structs import replace

from billing_stream.domain.commands import (
    AttachCharge,
    CreateMerchant,
    StartTrial,
)
from billing_stream.domain.model import PurchaseStatus
from billing_stream.domain.outcomes import (
    Done,
    ErrorCode,
    MerchantForgotten,
    ShopRegistered,
    TrialGranted,
)
from billing_stream.records.schemas import encode
from tests.support.world import CHECKOUT, M1, M2, NOBODY, World, code_of, told, writes_nothing


def gone(domain: str, platform: str = "shopify") -> ShopRegistered:
    return ShopRegistered(platform, domain, M1, gone=True)


def test_domain_shops_pages_and_answers_go() -> None:
    world = World().created()
    world.do(CreateMerchant(M1, "shopify", "anna.example"))
    world.reserve(key="k1", url="https://anna.example/thanks")
    world.charged()

    decision = world.forget()

    assert decision.reply == Done()
    assert decision.shops == (gone("1111.example"), gone("anna.example"))
    assert told(decision) == [MerchantForgotten(M1)]
    rows = (world.merchant(), *world.rows.purchases.values(), *world.rows.every_answer())
    written = b"".join(encode(row) for row in rows)
    assert b".example" not in written
    assert list(world.rows.answers(M1)) == []


def test_credits_purchases_charges_and_adjustments_stay() -> None:
    world = World().on_trial()
    purchase = world.paid()
    world.adjust(-10)
    merchant, bought, events = world.merchant(), world.purchase(purchase), list(world.log)
    adjustments = dict(world.rows.adjustments)

    world.later(hours=1).forget()

    after = world.merchant()
    assert after == replace(
        merchant,
        domain="",
        forgotten_at=world.now,
        updated_at=world.now,
        version=merchant.version + 1,
        sequence=merchant.sequence + 1,
    )
    assert world.purchase(purchase) == replace(bought, checkout_url=None, version=after.version)
    assert world.rows.adjustments == adjustments
    assert world.log[:-1] == events


def test_what_a_platform_said_of_a_failed_checkout_goes() -> None:
    world = World().created()
    purchase = world.opened()
    world.no_checkout(purchase)

    world.forget()

    assert world.purchase(purchase).no_checkout == "forgotten"
    assert world.purchase(purchase).status == PurchaseStatus.FAILED


def test_late_payments_and_refunds_still_find_their_purchase() -> None:
    world = World().created()
    purchase = world.charged()
    world.forget()

    world.webhook("ACTIVE")
    assert world.merchant().balance == 100
    world.refund()
    assert world.merchant().balance == 0
    assert world.purchase(purchase).status == PurchaseStatus.REFUNDED


def test_a_charge_that_comes_after_leaves_no_page() -> None:
    world = World().created()
    purchase = world.opened()
    world.forget()

    world.do(AttachCharge(M1, purchase, "charge", CHECKOUT))

    assert world.purchase(purchase).checkout_url is None
    assert world.purchase(purchase).platform_charge_id == "charge"


def test_a_forgotten_merchant_starts_and_buys_nothing() -> None:
    world = World().created()
    world.forget()
    before = world.everything()

    for decision in (world.do(StartTrial(M1)), world.reserve(key="k1")):
        assert code_of(decision) == ErrorCode.MERCHANT_NOT_FOUND
        assert writes_nothing(decision)
    assert world.everything() == before


def test_who_installs_again_is_known_again_and_the_trial_stays_used() -> None:
    world = World().on_trial()
    world.paid()
    created_at = world.merchant().created_at
    world.forget()

    decision = world.later(days=1).do(CreateMerchant(M1, "shopify", "1111.example"))

    assert decision.shops == (ShopRegistered("shopify", "1111.example", M1),)
    merchant = world.merchant()
    assert (merchant.created_at, merchant.forgotten_at, merchant.balance) == (created_at, None, 100)
    assert code_of(world.do(StartTrial(M1))) == ErrorCode.TRIAL_ALREADY_USED


def test_a_trial_never_used_is_still_there_for_who_comes_back() -> None:
    world = World().created()
    world.forget()
    world.do(CreateMerchant(M1, "shopify", "1111.example"))

    assert isinstance(world.do(StartTrial(M1)).reply, TrialGranted)


def test_a_forgotten_merchant_is_forgotten_once() -> None:
    world = World().created()
    world.forget()
    before = world.everything()

    again = world.later(days=1).forget()

    assert again.reply == Done()
    assert writes_nothing(again)
    assert world.everything() == before


def test_who_came_back_is_forgotten_again_with_an_event_of_its_own() -> None:
    world = World().created()
    world.forget()
    world.do(CreateMerchant(M1, "shopify", "1111.example"))
    world.forget()

    ids = [event.event_id for event in world.events]
    assert len(ids) == len(set(ids)) == 2


def test_what_a_platform_says_after_is_not_kept() -> None:
    world = World().created()
    purchase = world.opened()
    world.forget()

    world.no_checkout(purchase)

    assert world.purchase(purchase).no_checkout == "forgotten"


def test_the_oldest_of_very_many_shops_is_given_up() -> None:
    world = World().created()
    most = world.policy.former_shops_max
    given_up: list[ShopRegistered] = []
    for number in range(most + 2):
        decision = world.do(CreateMerchant(M1, "shopify", f"{number}.example"))
        given_up += [shop for shop in decision.shops if shop.gone]

    assert given_up == [gone("1111.example"), gone("0.example")]
    assert len(world.merchant().former_shops) == most


def test_a_shop_had_before_and_again_is_no_former_one() -> None:
    world = World().created()
    world.do(CreateMerchant(M1, "shopify", "b.example"))
    world.do(CreateMerchant(M1, "shopify", "1111.example"))

    assert world.merchant().former_shops == ("shopify:b.example",)


def test_nobody_else_is_forgotten() -> None:
    world = World().created(M1, M2)
    world.charged("c2", M2)
    before = world.merchant(M2), list(world.rows.purchases_of(M2))

    world.forget()

    assert (world.merchant(M2), list(world.rows.purchases_of(M2))) == before
    assert code_of(world.forget(NOBODY)) == ErrorCode.MERCHANT_NOT_FOUND
