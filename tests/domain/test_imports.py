"""What comes from the service before this one."""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from billing_stream.domain.commands import (
    CreateMerchant,
    ForgetMerchant,
    ImportMerchant,
    OldPurchase,
    StartTrial,
)
from billing_stream.domain.model import Platform, PurchaseStatus
from billing_stream.domain.outcomes import (
    CreditsImported,
    Decision,
    Done,
    ErrorCode,
    ShopRegistered,
    TrialExpired,
    TrialImported,
)
from tests.support.world import M1, M2, NOW, World, code_of, kinds, told, writes_nothing

OLD = datetime(2024, 5, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
P1 = "aaaaaaaa-0000-4000-8000-000000000001"
P2 = "aaaaaaaa-0000-4000-8000-000000000002"


def old(purchase_id: str = P1, status: Any = "completed", **fields: Any) -> OldPurchase:
    """A purchase of the old service: 500 credits, paid after an hour."""
    known: dict[str, Any] = {
        "credits": 500,
        "amount": "38.00",
        "platform": Platform.SHOPIFY,
        "created_at": OLD,
        "expires_at": OLD + DAY,
        "platform_charge_id": f"c-{purchase_id[-1]}",
        "completed_at": OLD + HOUR if status == "completed" else None,
    }
    return OldPurchase(id=purchase_id, status=status, **{**known, **fields})


def pending(purchase_id: str = P1, **fields: Any) -> OldPurchase:
    """A purchase that can still be paid."""
    return old(purchase_id, "pending", expires_at=NOW + HOUR, **fields)


def command(*purchases: OldPurchase, merchant: str = M1, **fields: Any) -> ImportMerchant:
    """The merchant as the old service had it."""
    known: dict[str, Any] = {"created_at": OLD, **fields}
    return ImportMerchant(merchant_id=merchant, purchases=purchases, **known)


def used_trial(ends_at: datetime | None) -> dict[str, Any]:
    """A trial that was used there."""
    started = ends_at - 14 * DAY if ends_at else None
    return {"trial_available": False, "trial_started_at": started, "trial_ends_at": ends_at}


def bring(world: World, *purchases: OldPurchase, **fields: Any) -> Decision:
    return world.do(command(*purchases, **fields))


def told_once(world: World) -> bool:
    """No event id twice, and numbers without a gap."""
    ids = [event.event_id for event in world.events]
    return len(set(ids)) == len(ids)


def test_imported_merchant_keeps_times_and_publishes_credits_with_origin() -> None:
    world = World()

    decision = bring(world, old(P1), old(P2, "failed"), **used_trial(NOW + DAY))

    merchant = world.merchant()
    assert decision.reply == Done()
    assert merchant.created_at == OLD
    assert merchant.updated_at == NOW
    assert merchant.total_credits_purchased == 500
    assert merchant.last_purchase_at == OLD + HOUR
    assert (merchant.trial_available, merchant.trial_ends_at) == (False, NOW + DAY)
    purchase = world.purchase(P1)
    assert purchase.status is PurchaseStatus.COMPLETED
    assert (purchase.created_at, purchase.completed_at) == (OLD, OLD + HOUR)
    assert purchase.platform_charge_id == "c-1"
    assert told(decision) == [
        TrialImported(M1, NOW - 13 * DAY, NOW + DAY),
        CreditsImported(M1, P1, 500, "38.00", Platform.SHOPIFY, "USD"),
    ]
    assert told_once(world)


def test_the_same_import_again_changes_nothing_and_tells_nothing() -> None:
    world = World()
    said = command(
        old(P1), pending(P2), **used_trial(OLD), last_purchase_at=OLD, platform="x", domain="X.io"
    )
    world.do(said)
    before = world.everything()

    again = world.later(minutes=5).do(said)

    assert writes_nothing(again)
    assert world.everything() == before


def test_a_merchant_may_come_in_parts() -> None:
    whole, parts = World(), World()

    bring(whole, old(P1), old(P2))
    bring(parts, old(P1))
    bring(parts, old(P2))

    assert parts.merchant().total_credits_purchased == 1000
    assert parts.merchant().total_credits_purchased == whole.merchant().total_credits_purchased
    assert set(parts.rows.purchases) == set(whole.rows.purchases)


def test_a_paid_purchase_is_never_told_as_paid_again() -> None:
    world = World()
    bring(world, old(P1))

    late = world.webhook("ACTIVE", "c-1")

    assert writes_nothing(late)
    assert kinds(world.log) == ["credits.imported"]


def test_a_trial_that_ended_before_the_import_is_not_told_again() -> None:
    world = World()

    bring(world, **used_trial(NOW))
    world.later(days=1).tick()

    assert world.merchant().trial_expired
    assert kinds(world.log) == ["trial.imported"]


def test_a_trial_that_still_runs_ends_here_once_at_its_old_end() -> None:
    world = World()
    bring(world, **used_trial(NOW + HOUR))

    world.later(hours=2).tick()
    world.later(hours=2).tick()

    assert world.log[1:] == [TrialExpired(M1, NOW + HOUR)]


def test_a_trial_without_dates_is_used_all_the_same() -> None:
    world = World()
    bring(world, **used_trial(None))

    refused = world.do(StartTrial(M1, command_id="t[0]@1"))

    assert code_of(refused) is ErrorCode.TRIAL_ALREADY_USED
    assert world.merchant().trial_due(HOUR) is None
    assert world.log == [TrialImported(M1, None, None)]


def test_a_trial_used_here_wins() -> None:
    world = World().on_trial()
    before = world.merchant()

    decision = bring(world, **used_trial(OLD))

    assert world.merchant().trial_ends_at == before.trial_ends_at
    assert told(decision) == []


def test_a_pending_purchase_can_be_paid_here() -> None:
    world = World()
    bring(world, pending())

    paid = world.webhook("ACTIVE", "c-1")

    assert kinds(paid.events) == ["credits.purchased"]
    assert world.merchant().total_credits_purchased == 500


def test_a_pending_purchase_expires_here_at_its_old_end() -> None:
    world = World()
    bring(world, pending())

    expired = world.later(hours=1).tick()

    assert kinds(expired.events) == ["purchase.expired"]


def test_overdue_pending_purchase_is_imported_as_expired_without_event() -> None:
    world = World()

    bring(world, old(P1, "pending", expires_at=NOW))
    world.later(days=1).tick()

    assert world.purchase(P1).status is PurchaseStatus.EXPIRED
    assert world.log == []


def test_a_payment_that_waited_for_its_purchase_is_honoured() -> None:
    world = World()
    world.webhook("ACTIVE", "c-1")

    decision = bring(world, pending())

    assert kinds(decision.events) == ["credits.purchased"]
    assert world.merchant().total_credits_purchased == 500
    assert world.merchant().parked == ()


def test_a_payment_that_waited_and_was_counted_there_is_not_counted_again() -> None:
    world = World()
    world.webhook("ACTIVE", "c-1")

    decision = bring(world, old(P1))

    assert kinds(decision.events) == ["credits.imported"]
    assert world.merchant().total_credits_purchased == 500
    assert world.merchant().parked == ()


def test_a_refund_of_an_imported_purchase_takes_its_credits_off_once() -> None:
    world = World()
    bring(world, old(P1))

    world.refund("c-1")
    bring(world, old(P1))

    assert kinds(world.log) == ["credits.imported", "purchase.refunded"]
    assert world.merchant().total_credits_purchased == 0
    assert world.purchase(P1).status is PurchaseStatus.REFUNDED


def test_purchase_paid_after_the_first_import_counts_with_the_second() -> None:
    world = World()
    bring(world, pending())
    world.later(days=2).tick()

    second = bring(world, old(P1))
    third = bring(world, old(P1))

    assert kinds(world.log) == ["purchase.expired", "credits.imported"]
    assert kinds(second.events) == ["credits.imported"]
    assert world.merchant().total_credits_purchased == 500
    assert world.purchase(P1).completed_at == OLD + HOUR
    assert writes_nothing(third)
    assert told_once(world)


def test_a_purchase_paid_here_is_not_taken_back_by_an_older_state() -> None:
    world = World()
    bring(world, pending())
    world.webhook("ACTIVE", "c-1")
    before = world.everything()

    for status in ("pending", "failed", "expired", "completed"):
        assert writes_nothing(bring(world, old(P1, status)))

    assert world.everything() == before


def test_a_charge_that_was_stored_later_is_attached_by_the_second_import() -> None:
    world = World()
    bring(world, pending(platform_charge_id=None))
    world.webhook("accepted", "c-1")

    second = bring(world, pending())

    assert kinds(second.events) == ["credits.purchased"]
    assert world.purchase(P1).platform_charge_id == "c-1"


def test_a_paid_purchase_that_gets_its_charge_later_counts_once() -> None:
    world = World()
    bring(world, old(P1, platform_charge_id=None))

    second = bring(world, old(P1))

    assert told(second) == []
    assert world.purchase(P1).platform_charge_id == "c-1"
    assert world.merchant().total_credits_purchased == 500


def test_a_charge_belongs_to_the_first_of_two_purchases() -> None:
    world = World()

    bring(world, old(P1, platform_charge_id="same"), old(P2, platform_charge_id="same"))
    bring(world, pending(P2.replace("2", "3"), platform_charge_id="same"))

    assert world.purchase(P1).platform_charge_id == "same"
    assert world.purchase(P2).platform_charge_id is None
    assert world.merchant().total_credits_purchased == 1000
    world.refund("same")
    assert world.purchase(P1).status is PurchaseStatus.REFUNDED
    assert world.purchase(P2).status is PurchaseStatus.COMPLETED


def test_a_purchase_of_another_merchant_refuses_the_whole() -> None:
    world = World()
    bring(world, old(P1))
    before = world.everything()

    refused = bring(world, old(P2), old(P1), merchant=M2)

    assert code_of(refused) is ErrorCode.PURCHASE_NOT_FOUND
    assert writes_nothing(refused)
    assert world.everything() == before


def test_what_happened_here_stays_and_the_old_total_counts_once() -> None:
    world = World().created()
    here = world.paid("mine")

    bring(world, old(P1))
    bring(world, old(P1))

    merchant = world.merchant()
    assert merchant.total_credits_purchased == 600
    assert merchant.created_at == OLD
    assert merchant.last_purchase_at == NOW
    assert merchant.domain == f"{M1[:4]}.example"
    assert world.purchase(here).status is PurchaseStatus.COMPLETED


def test_shop_is_registered_by_the_import_or_a_later_event() -> None:
    known, unknown = World(), World()
    shop = {"platform": "Shopify", "domain": "Anna.example"}

    first = bring(known, **shop)
    second = bring(known, platform="shopify", domain="older.example")
    bring(unknown)
    created = unknown.do(CreateMerchant(M1, "shopify", "anna.example", "t[0]@1"))

    registered = ShopRegistered("shopify", "anna.example", M1)
    assert first.shops == (replace(registered, installed_at=OLD),)
    assert writes_nothing(second)
    assert created.shops == (registered,)
    assert unknown.merchant().created_at == OLD


def test_a_forgotten_merchant_stays_forgotten() -> None:
    world = World().created()
    world.do(ForgetMerchant(M1, "f[0]@1"))

    decision = bring(world, old(P1), platform="shopify", domain="anna.example")

    assert decision.shops == ()
    assert world.merchant().domain == ""
    assert world.merchant().total_credits_purchased == 500


def test_ids_of_any_letter_case_are_the_same() -> None:
    world = World()
    bring(world, old(P1.upper()))

    for spelling in (P1, P1.upper()):
        assert writes_nothing(bring(world, old(spelling)))
    assert set(world.rows.purchases) == {P1}
