"""Rules of the billing record."""

from billing_stream.domain.commands import CreateMerchant, PassTime, StartTrial
from billing_stream.domain.outcomes import Done, ErrorCode, Rejected, ShopRegistered
from tests.support.world import M1, NOW, World


def test_an_installed_merchant_has_a_record_with_the_defaults_and_a_registered_shop() -> None:
    world = World()

    decision = world.do(CreateMerchant(M1, "Shopify", "Anna.Example"))

    assert decision.reply == Done()
    assert decision.events == ()
    assert decision.shops == (ShopRegistered("shopify", "anna.example", M1),)
    merchant = world.merchant()
    assert merchant.trial_available
    assert merchant.total_credits_purchased == 0
    assert merchant.trial_started_at is merchant.trial_ends_at is merchant.last_purchase_at is None
    assert merchant.created_at == merchant.updated_at == NOW


def test_a_second_creation_changes_nothing() -> None:
    world = World().created()
    before = world.merchant()

    decision = world.later(hours=1).created().decide(CreateMerchant(M1, "shopify", "1111.example"))

    assert decision.merchant is None
    assert decision.shops == ()
    assert world.merchant() == before


def test_a_changed_domain_is_registered_and_nothing_else_changes() -> None:
    world = World().on_trial()
    before = world.merchant()

    decision = world.later(hours=1).do(CreateMerchant(M1, "shopify", "new.example"))

    assert decision.shops == (ShopRegistered("shopify", "new.example", M1),)
    after = world.merchant()
    assert (after.trial_ends_at, after.created_at) == (before.trial_ends_at, before.created_at)
    assert after.trial_available == before.trial_available
    assert decision.events == ()


def test_a_command_for_an_unknown_merchant_is_refused_and_changes_nothing() -> None:
    world = World()

    decision = world.do(StartTrial(M1))

    assert isinstance(decision.reply, Rejected)
    assert decision.reply.code is ErrorCode.MERCHANT_NOT_FOUND
    assert world.rows.merchants == {}


def test_time_alone_changes_nothing_when_nothing_is_due() -> None:
    world = World().on_trial()

    decision = world.later(days=1).do(PassTime(M1))

    assert decision.merchant is None
    assert decision.events == ()


def test_a_webhook_may_come_before_its_merchant() -> None:
    world = World()
    world.webhook("ACTIVE")
    world.created()

    purchase = world.charged()

    assert world.purchase(purchase).status == "completed"
    assert world.merchant().created_at == NOW
