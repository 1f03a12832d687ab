"""A merchant uninstalls the app: what is open expires, what was paid stays, and it may return."""

from datetime import timedelta

import pytest

from billing_stream.domain.commands import (
    AttachCharge,
    CreateMerchant,
    ForgetMerchant,
    StartTrial,
    UninstallMerchant,
)
from billing_stream.domain.model import PurchaseStatus
from billing_stream.domain.outcomes import (
    Decision,
    Done,
    ErrorCode,
    MerchantForgotten,
    MerchantUninstalled,
    PurchaseExpired,
    PurchaseOpened,
    ShopRegistered,
    Superseded,
    TrialExpired,
    TrialGranted,
)
from tests.support.world import (
    CHECKOUT,
    M1,
    M2,
    NOBODY,
    NOW,
    World,
    code_of,
    told,
    writes_nothing,
)

SHOP = "shopify:1111.example"
HOUR = timedelta(hours=1)


def uninstall(world: World, after: timedelta = timedelta(0)) -> Decision:
    """The platform reports that the shop uninstalled the app so long after NOW."""
    world.now = max(world.now, NOW + after)
    return world.do(UninstallMerchant(M1, "u[0]@1", SHOP, NOW + after))


def installed(world: World, after: timedelta, domain: str = "1111.example") -> None:
    """Upstream reports an installation that was made so long after NOW."""
    world.do(CreateMerchant(M1, "shopify", domain, "t[0]@2", installed_at=NOW + after))


def test_open_purchases_expire_and_what_was_paid_stays() -> None:
    world = World().on_trial()
    paid = world.paid()
    charged, opened = world.charged("c2"), world.opened()
    world.adjust(5)
    world.later(hours=1)

    decision = world.do(UninstallMerchant(M1, "u[0]@1", SHOP, NOW + HOUR / 2))

    assert decision.reply == Done()
    assert told(decision) == [
        PurchaseExpired(M1, charged, "uninstalled"),
        PurchaseExpired(M1, opened, "uninstalled"),
        MerchantUninstalled(M1),
    ]
    assert [event.at for event in decision.events] == [world.now] * 3
    assert world.purchase(paid).status is PurchaseStatus.COMPLETED
    assert world.purchase(charged).status is PurchaseStatus.EXPIRED
    merchant = world.merchant()
    assert (merchant.balance, merchant.uninstalled_at) == (105, NOW + HOUR / 2)
    assert (merchant.domain, merchant.trial_active(world.now)) == ("1111.example", True)


def test_all_its_shops_may_be_had_by_others() -> None:
    world = World().created()
    world.do(CreateMerchant(M1, "shopify", "anna.example", "t", "7", NOW))

    decision = world.do(UninstallMerchant(M1))

    assert decision.shops == (
        ShopRegistered("shopify", "1111.example", M1, uninstalled=True),
        ShopRegistered("shopify", "anna.example", M1, False, "7", NOW, uninstalled=True),
    )


def test_deadlines_of_expired_purchases_are_gone() -> None:
    world = World().created()
    world.charged()
    uninstall(world)

    assert world.rows.pending_count(M1) == 0
    assert world.rows.next_due(M1, timedelta(days=1), None) is None


def test_the_trial_goes_on_and_expires_at_its_end() -> None:
    world = World().on_trial()
    ends_at = world.merchant().trial_ends_at
    assert ends_at is not None
    uninstall(world)

    world.later(days=20).tick()

    assert world.log[-1] == TrialExpired(M1, ends_at)


def test_a_repeated_report_is_told_once() -> None:
    world = World().created()
    uninstall(world, HOUR)
    before = world.everything()

    again = world.later(hours=2).do(UninstallMerchant(M1, "u[0]@2", SHOP, NOW + HOUR))

    assert again.reply == Done()
    assert writes_nothing(again)
    assert world.everything() == before


@pytest.mark.parametrize("command", [UninstallMerchant, ForgetMerchant])
def test_one_that_installed_since_then_is_left_alone(
    command: type[UninstallMerchant] | type[ForgetMerchant],
) -> None:
    world = World()
    installed(world, HOUR)
    world.charged()
    before = world.everything()

    for after in (timedelta(0), HOUR - timedelta.resolution):
        decision = world.do(command(M1, "u[0]@1", SHOP, NOW + after))
        assert decision.reply == Superseded()
        assert writes_nothing(decision)
    assert world.everything() == before
    assert world.do(command(M1, "u[0]@1", SHOP, NOW + HOUR)).reply == Done()


@pytest.mark.parametrize("command", [UninstallMerchant, ForgetMerchant])
def test_without_a_time_of_installation_that_of_the_record_counts(
    command: type[UninstallMerchant] | type[ForgetMerchant],
) -> None:
    world = World().created()

    assert world.do(command(M1, "u", SHOP, NOW - HOUR)).reply == Superseded()
    assert world.do(command(M1, "u", SHOP, NOW)).reply == Done()


def test_a_shop_that_it_had_before_uninstalls_nothing() -> None:
    world = World().created()
    world.do(CreateMerchant(M1, "shopify", "anna.example"))
    world.charged()

    for shop in (SHOP, "shopify:other.example"):
        decision = world.do(UninstallMerchant(M1, "u", shop, NOW + HOUR))
        assert decision.reply == Superseded()
    assert world.merchant().uninstalled_at is None


def test_of_a_shop_that_it_had_before_only_the_shop_is_erased() -> None:
    world = World().created()
    world.do(CreateMerchant(M1, "shopify", "anna.example"))

    decision = world.do(ForgetMerchant(M1, "f", SHOP, NOW + HOUR))
    other = world.do(ForgetMerchant(M1, "f", "shopify:other.example", NOW + HOUR))

    assert decision.shops == (ShopRegistered("shopify", "1111.example", M1, gone=True),)
    assert (told(decision), other.reply) == ([], Superseded())
    merchant = world.merchant()
    assert (merchant.domain, merchant.former_shops) == ("anna.example", ())
    assert merchant.forgotten_at is None


def test_who_installs_again_buys_again() -> None:
    world = World().on_trial()
    uninstall(world, HOUR)

    installed(world.later(hours=2), 2 * HOUR)

    assert world.merchant().uninstalled_at is None
    assert isinstance(world.reserve().reply, PurchaseOpened)
    assert code_of(world.do(StartTrial(M1))) is ErrorCode.TRIAL_ALREADY_USED


def test_an_installation_from_before_restores_nothing() -> None:
    world = World()
    installed(world, timedelta(0))
    uninstall(world, 2 * HOUR)

    for after in (timedelta(0), HOUR, 2 * HOUR):
        installed(world, after)
        assert world.merchant().uninstalled_at is not None


def test_a_return_that_is_told_before_the_uninstall_stays() -> None:
    """The same rows, and no purchase of the new installation expires."""
    world = World()
    installed(world, timedelta(0))
    installed(world.later(hours=2), 2 * HOUR)
    world.charged()

    assert world.do(UninstallMerchant(M1, "u", SHOP, NOW + HOUR)).reply == Superseded()
    assert world.rows.pending_count(M1) == 1
    assert world.merchant().uninstalled_at is None


def test_a_time_that_is_still_to_come_is_taken_for_now() -> None:
    """The platform does not sign it, and a return is compared with it."""
    world = World().created()

    world.do(UninstallMerchant(M1, "u", SHOP, NOW + 9000 * HOUR))

    assert world.merchant().uninstalled_at == NOW


def test_each_installation_has_an_event_of_its_own() -> None:
    world = World()
    for number in range(3):
        installed(world.later(hours=2), 2 * number * HOUR)
        uninstall(world.later(hours=1), (2 * number + 1) * HOUR)
        uninstall(world, (2 * number + 1) * HOUR)

    assert world.log == [MerchantUninstalled(M1)] * 3
    assert len({event.event_id for event in world.events}) == 3


@pytest.mark.parametrize("paid_first", [True, False])
def test_a_payment_counts_before_and_after_the_uninstall(paid_first: bool) -> None:
    world = World().created()
    purchase = world.charged()
    if paid_first:
        world.webhook("ACTIVE")
    uninstall(world)
    if not paid_first:
        world.later(days=30).webhook("ACTIVE")

    assert world.merchant().balance == 100
    assert world.purchase(purchase).status is PurchaseStatus.COMPLETED
    world.refund()
    assert world.merchant().balance == 0


def test_a_checkout_that_was_being_opened_has_its_charge_and_is_paid() -> None:
    world = World().created()
    purchase = world.opened()
    uninstall(world)

    world.do(AttachCharge(M1, purchase, "charge", CHECKOUT))
    world.webhook("ACTIVE")

    assert world.merchant().balance == 100


def test_an_uninstalled_merchant_begins_nothing() -> None:
    world = World().created()
    uninstall(world)
    before = world.everything()

    for decision in (
        world.do(StartTrial(M1)),
        world.do(StartTrial(M1, "k1")),
        world.reserve(),
        world.reserve(key="k2"),
    ):
        assert code_of(decision) is ErrorCode.MERCHANT_UNINSTALLED
        assert writes_nothing(decision)
    assert world.everything() == before


def test_a_refused_key_may_be_used_when_it_is_installed_again() -> None:
    world = World().created()
    uninstall(world)
    world.reserve(key="k1")
    world.do(StartTrial(M1, "k2"))
    installed(world.later(hours=1), HOUR)

    assert isinstance(world.reserve(key="k1").reply, PurchaseOpened)
    assert isinstance(world.do(StartTrial(M1, "k2")).reply, TrialGranted)


def test_stored_answers_stay_as_they_were_given() -> None:
    world = World().on_trial()
    world.charged()
    first = world.do(StartTrial(M1, "k1")).reply
    uninstall(world)

    assert world.do(StartTrial(M1, "k1")).reply == first


def test_who_uninstalled_is_forgotten_two_days_later() -> None:
    world = World().created()
    uninstall(world, HOUR)

    decision = world.later(days=2).do(ForgetMerchant(M1, "f", SHOP, NOW + 49 * HOUR))

    assert told(decision) == [MerchantForgotten(M1)]
    assert [shop.gone for shop in decision.shops] == [True]
    merchant = world.merchant()
    assert (merchant.domain, merchant.uninstalled_at) == ("", NOW + HOUR)
    assert code_of(world.reserve()) is ErrorCode.MERCHANT_NOT_FOUND
    installed(world, 60 * HOUR)
    assert isinstance(world.reserve().reply, PurchaseOpened)


def test_an_uninstall_after_the_erasure_changes_no_shop() -> None:
    world = World().created()
    world.forget()

    assert uninstall(world, HOUR).reply == Superseded()
    assert world.do(UninstallMerchant(M1)).shops == ()


def test_nobody_else_is_uninstalled() -> None:
    world = World().created(M1, M2)
    world.charged("c2", M2)
    before = world.merchant(M2), list(world.rows.purchases_of(M2))

    uninstall(world)

    assert (world.merchant(M2), list(world.rows.purchases_of(M2))) == before
    assert code_of(world.do(UninstallMerchant(NOBODY))) is ErrorCode.MERCHANT_NOT_FOUND
