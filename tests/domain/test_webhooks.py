"""Rules of what the platforms tell."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from billing_stream.domain.model import Platform, PurchaseStatus
from billing_stream.domain.outcomes import CreditsPurchased, Done, PurchaseFailed
from billing_stream.domain.policy import Policy
from billing_stream.domain.reports import ParkedKind, ParkedWebhook
from tests.support.world import M1, M2, NOW, World, kinds, told, writes_nothing


@pytest.mark.parametrize("status", ["accepted", "ACCEPTED", "active", "Active", "ACTIVE"])
def test_accepted_and_active_complete_in_any_letter_case(status: str) -> None:
    world = World().created()
    purchase = world.charged()

    decision = world.webhook(status)

    assert decision.reply == Done()
    assert told(decision) == [
        CreditsPurchased(M1, purchase, 100, "9.99", Platform.SHOPIFY, "USD", "small")
    ]
    assert world.purchase(purchase).status == "completed"
    assert world.merchant().total_credits_purchased == 100


@pytest.mark.parametrize("status", ["pending", "PENDING", "Pending"])
@pytest.mark.parametrize("charge", ["charge", "unknown"])
def test_pending_changes_nothing_in_any_letter_case(status: str, charge: str) -> None:
    world = World().created()
    world.charged()
    before = world.everything()

    decision = world.webhook(status, charge)

    assert decision.reply == Done()
    assert writes_nothing(decision)
    assert world.everything() == before


@pytest.mark.parametrize(
    "status",
    ["declined", "DECLINED", "expired", "EXPIRED", "cancelled", "frozen", "Failed"],
)
def test_a_word_for_unpaid_fails_the_purchase_once(status: str) -> None:
    world = World().created()
    purchase = world.charged()
    before, row = world.merchant(), world.purchase(purchase)

    decision = world.webhook(status)
    after = world.everything()
    again = world.webhook(status)

    assert told(decision) == [PurchaseFailed(M1, purchase, status.lower())]
    assert writes_nothing(again)
    assert world.everything() == after
    assert world.merchant() == replace(before, version=before.version + 1, sequence=1)
    assert world.purchase(purchase) == replace(
        row, status=PurchaseStatus.FAILED, version=before.version + 1
    )


@pytest.mark.parametrize("late", ["DECLINED", "PENDING", "expired", "ACCEPTED", "frozen"])
def test_what_comes_late_never_undoes_a_paid_purchase(late: str) -> None:
    world = World().created()
    purchase = world.paid()
    before = world.everything()

    decision = world.later(hours=48).webhook(late)

    assert writes_nothing(decision)
    assert world.everything() == before
    assert world.purchase(purchase).status == "completed"


@pytest.mark.parametrize("late", ["DECLINED", "PENDING", "cancelled"])
def test_what_comes_late_changes_nothing_in_an_expired_purchase(late: str) -> None:
    world = World().created()
    world.charged()
    world.later(hours=25).tick()
    before = world.everything()

    decision = world.webhook(late)

    assert writes_nothing(decision)
    assert world.everything() == before


@pytest.mark.parametrize("end", ["failed", "expired"])
def test_a_late_payment_is_honoured(end: str) -> None:
    world = World().created()
    purchase = world.charged()
    if end == "failed":
        world.webhook("declined")
    else:
        world.later(hours=25).tick()

    decision = world.later(days=30).webhook("ACTIVE")
    again = world.webhook("ACTIVE")

    assert told(decision) == [
        CreditsPurchased(M1, purchase, 100, "9.99", Platform.SHOPIFY, "USD", "small")
    ]
    assert writes_nothing(again)
    assert world.purchase(purchase).status == "completed"
    assert world.purchase(purchase).completed_at == world.now
    assert world.merchant().total_credits_purchased == 100


def test_early_webhook_is_parked_and_applied_with_its_charge() -> None:
    world = World().created()
    purchase = world.opened()
    before, row = world.merchant(), world.purchase(purchase)

    early = world.webhook("ACTIVE")

    assert early.reply == Done()
    assert early.events == ()
    assert early.unclaimed == ()
    parked = ParkedWebhook("charge", ParkedKind.COMPLETE, "active", "w[0]@1", NOW)
    assert world.merchant() == replace(before, version=before.version + 1, parked=(parked,))
    assert world.purchase(purchase) == row

    attached = world.attach(purchase)

    assert told(attached) == [
        CreditsPurchased(M1, purchase, 100, "9.99", Platform.SHOPIFY, "USD", "small")
    ]
    assert world.merchant().parked == ()
    assert world.purchase(purchase).status == "completed"
    assert world.purchase(purchase).platform_charge_id == "charge"
    assert world.merchant().total_credits_purchased == 100


def test_an_early_webhook_may_come_before_its_purchase_too() -> None:
    world = World().created()
    world.webhook("ACTIVE")

    purchase = world.later(hours=23).charged()

    assert world.purchase(purchase).status == "completed"
    assert kinds(world.log) == ["credits.purchased"]


def test_an_early_decline_fails_the_purchase_with_its_status() -> None:
    world = World().created()
    purchase = world.opened()
    world.webhook("DECLINED")

    attached = world.attach(purchase)

    assert told(attached) == [PurchaseFailed(M1, purchase, "declined")]


def test_early_webhooks_apply_in_the_order_they_came() -> None:
    world = World().created()
    purchase = world.opened()
    world.webhook("declined")
    world.webhook("ACTIVE")
    world.refund()

    attached = world.attach(purchase)

    assert kinds(attached.events) == ["purchase.failed", "credits.purchased", "purchase.refunded"]
    assert world.purchase(purchase).status == "refunded"
    assert world.merchant().total_credits_purchased == 0


def test_an_early_refund_and_its_payment_come_to_nothing_in_either_order() -> None:
    for first in ("refund", "payment"):
        world = World().created()
        purchase = world.opened()
        if first == "refund":
            world.refund()
            world.webhook("ACTIVE")
        else:
            world.webhook("ACTIVE")
            world.refund()

        attached = world.attach(purchase)

        assert kinds(attached.events) == ["credits.purchased", "purchase.refunded"]
        assert world.purchase(purchase).status == "refunded"
        assert world.merchant().total_credits_purchased == 0


@pytest.mark.parametrize(("first", "same"), [("ACTIVE", "accepted"), ("declined", "EXPIRED")])
def test_early_webhooks_of_the_same_effect_are_parked_once(first: str, same: str) -> None:
    world = World().created()
    world.webhook(first)
    before = world.everything()

    for status in (first, same):
        assert writes_nothing(world.webhook(status))
    assert world.everything() == before


def test_parked_webhooks_of_other_charges_stay_parked() -> None:
    world = World().created()
    for charge in ("one", "charge", "other"):
        world.webhook("ACTIVE", charge)

    world.charged("charge")

    assert [parked.charge_id for parked in world.merchant().parked] == ["one", "other"]


def test_unmatched_webhook_is_reported_once_after_the_expiry() -> None:
    world = World().created()
    world.webhook("ACTIVE", "nobody's", source="w[3]@77")

    before = world.later(hours=24, microseconds=-1).tick()
    first = world.later(microseconds=1).tick()
    after = world.everything()
    again = world.later(hours=24).tick()

    assert writes_nothing(before)
    assert first.events == ()
    (unclaimed,) = first.unclaimed
    assert unclaimed.merchant_id == M1
    assert unclaimed.parked == ParkedWebhook(
        "nobody's", ParkedKind.COMPLETE, "active", "w[3]@77", NOW
    )
    assert writes_nothing(again)
    assert world.everything() == after
    assert world.merchant().parked == ()


def test_each_webhook_waits_its_own_time() -> None:
    world = World().created()
    world.webhook("ACTIVE", "old")
    world.later(hours=12).webhook("ACTIVE", "young")

    decision = world.later(hours=12).tick()

    assert [unclaimed.parked.charge_id for unclaimed in decision.unclaimed] == ["old"]
    assert [parked.charge_id for parked in world.merchant().parked] == ["young"]


def test_a_reported_webhook_that_is_sent_again_has_its_effect() -> None:
    world = World().created()
    purchase = world.opened()
    world.webhook("ACTIVE")
    late = world.later(hours=24).attach(purchase)
    assert len(late.unclaimed) == 1
    assert world.purchase(purchase).status == "expired"

    decision = world.webhook("ACTIVE")

    assert kinds(decision.events) == ["credits.purchased"]
    assert world.purchase(purchase).status == "completed"


def test_a_merchant_never_created_has_its_unclaimed_webhooks_reported() -> None:
    world = World()
    world.webhook("ACTIVE")

    decision = world.later(hours=24).tick()

    assert [unclaimed.merchant_id for unclaimed in decision.unclaimed] == [M1]
    assert world.merchant().parked == ()
    assert world.merchant().created_at is None


def test_more_parked_webhooks_than_are_kept_are_reported_at_once() -> None:
    world = World(Policy(parked_max=2)).created()
    for charge in ("a", "b"):
        world.webhook("ACTIVE", charge)
    before = world.everything()

    known = world.webhook("ACTIVE", "a")
    decision = world.webhook("ACTIVE", "c", source="w[0]@9")

    assert writes_nothing(known)
    assert [unclaimed.parked.source for unclaimed in decision.unclaimed] == ["w[0]@9"]
    assert decision.events == ()
    assert decision.merchant is None
    assert world.everything() == before


def test_a_full_parking_keeps_no_known_charge_from_its_webhook() -> None:
    world = World(Policy(parked_max=1)).created()
    world.webhook("ACTIVE", "unknown")

    purchase = world.paid()

    assert world.purchase(purchase).status == "completed"
    assert [parked.charge_id for parked in world.merchant().parked] == ["unknown"]


def test_room_in_the_parking_comes_back() -> None:
    world = World(Policy(parked_max=1)).created()
    world.webhook("ACTIVE", "a")

    decision = world.later(hours=24).webhook("ACTIVE", "b")

    assert [unclaimed.parked.charge_id for unclaimed in decision.unclaimed] == ["a"]
    assert [parked.charge_id for parked in world.merchant().parked] == ["b"]


@pytest.mark.parametrize("status", ["ACTIVE", "declined"])
def test_a_webhook_with_another_merchants_id_does_not_touch_the_charge(status: str) -> None:
    world = World().created(M1, M2)
    purchase = world.charged("charge", M1)
    before, row = world.merchant(M1), world.purchase(purchase)

    told_of_another = world.webhook(status, "charge", M2)
    refund = world.refund("charge", M2)

    assert told_of_another.events == refund.events == ()
    assert (world.merchant(M1), world.purchase(purchase)) == (before, row)
    assert world.merchant(M2).total_credits_purchased == 0


def test_the_same_webhook_a_hundred_times_grants_once() -> None:
    world = World().created()
    world.charged()

    world.webhook("ACTIVE")
    before = world.everything()
    decisions = [world.later(seconds=1).webhook("ACTIVE") for _ in range(99)]

    assert all(writes_nothing(decision) for decision in decisions)
    assert kinds(world.log) == ["credits.purchased"]
    assert world.everything() == before


def test_what_is_parked_falls_due() -> None:
    world = World().created()
    world.webhook("ACTIVE", "nobody's")

    due = world.rows.next_due(M1, world.policy.purchase_expiry, None)

    assert due == NOW + timedelta(hours=24)
