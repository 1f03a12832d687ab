"""Rules of what the platforms tell."""

from datetime import timedelta

import pytest

from billing_stream.domain.commands import PassTime
from billing_stream.domain.model import Policy
from billing_stream.domain.outcomes import PurchaseFailed
from tests.support.world import M1, M2, World, kinds


@pytest.mark.parametrize("status", ["accepted", "ACCEPTED", "active", "Active", "ACTIVE"])
def test_accepted_and_active_complete_in_any_letter_case(status: str) -> None:
    world = World().created()
    purchase = world.charged()

    decision = world.webhook(status)

    assert kinds(decision.events) == ["credits.purchased"]
    assert world.purchase(purchase).status == "completed"


@pytest.mark.parametrize("status", ["pending", "PENDING", "Pending"])
def test_pending_changes_nothing(status: str) -> None:
    world = World().created()
    world.charged()

    decision = world.webhook(status)

    assert (decision.merchant, decision.events) == (None, ())


@pytest.mark.parametrize("status", ["declined", "DECLINED", "expired", "cancelled", "frozen", "?"])
def test_anything_else_fails_the_purchase(status: str) -> None:
    world = World().created()
    purchase = world.charged()

    decision = world.webhook(status)

    assert [e.data for e in decision.events] == [PurchaseFailed(M1, purchase, status.lower())]
    assert world.merchant().total_credits_purchased == 0


@pytest.mark.parametrize("late", ["DECLINED", "PENDING", "expired"])
def test_what_comes_late_never_undoes_a_paid_purchase(late: str) -> None:
    world = World().created()
    purchase = world.charged()
    world.webhook("ACTIVE")

    decision = world.webhook(late)

    assert decision.merchant is None
    assert world.purchase(purchase).status == "completed"


@pytest.mark.parametrize("before", ["declined", "time"])
def test_a_late_payment_is_honoured(before: str) -> None:
    world = World().created()
    purchase = world.charged()
    if before == "declined":
        world.webhook("declined")
    else:
        world.later(hours=25).do(PassTime(M1))

    decision = world.later(hours=1).webhook("ACTIVE")

    assert kinds(decision.events) == ["credits.purchased"]
    assert world.purchase(purchase).status == "completed"
    assert world.merchant().total_credits_purchased == 100


def test_an_early_webhook_is_parked_and_applied_when_its_charge_is_attached() -> None:
    world = World().created()
    purchase = world.opened()

    early = world.webhook("ACTIVE")
    assert early.events == ()
    assert len(world.merchant().parked) == 1
    attached = world.attach(purchase, "charge")

    assert kinds(attached.events) == ["credits.purchased"]
    assert world.merchant().parked == ()
    assert world.purchase(purchase).status == "completed"


def test_early_webhooks_apply_in_the_order_they_came() -> None:
    world = World().created()
    purchase = world.opened()
    world.webhook("declined")
    world.webhook("ACTIVE")
    world.refund()

    attached = world.attach(purchase, "charge")

    assert kinds(attached.events) == ["purchase.failed", "credits.purchased", "purchase.refunded"]


def test_the_same_early_webhook_is_parked_once() -> None:
    world = World().created()
    world.webhook("ACTIVE")

    again = world.webhook("ACTIVE")

    assert again.merchant is None
    assert len(world.merchant().parked) == 1


def test_a_parked_webhook_of_another_charge_stays_parked() -> None:
    world = World().created()
    world.webhook("ACTIVE", charge="other")

    world.charged("charge")

    assert [p.charge_id for p in world.merchant().parked] == ["other"]


def test_a_webhook_that_nobody_claims_is_reported_once() -> None:
    world = World().created()
    world.webhook("ACTIVE", charge="nobody's")

    first = world.later(hours=24).do(PassTime(M1))
    again = world.later(hours=24).do(PassTime(M1))

    (unclaimed,) = first.unclaimed
    assert (unclaimed.merchant_id, unclaimed.parked.charge_id) == (M1, "nobody's")
    assert unclaimed.parked.source == "w[0]@1"
    assert again.unclaimed == ()
    assert world.merchant().parked == ()


def test_more_parked_webhooks_than_are_kept_are_reported_at_once() -> None:
    world = World(Policy(parked_max=2)).created()
    for charge in ("a", "b"):
        world.webhook("ACTIVE", charge=charge)

    decision = world.webhook("ACTIVE", charge="c")

    assert [u.parked.charge_id for u in decision.unclaimed] == ["c"]
    assert [p.charge_id for p in world.merchant().parked] == ["a", "b"]


def test_a_webhook_with_another_merchants_id_does_not_touch_the_charge() -> None:
    world = World().created(M1, M2)
    purchase = world.charged("charge", M1)

    decision = world.webhook("ACTIVE", "charge", M2)

    assert decision.events == ()
    assert world.purchase(purchase).status == "pending"
    assert world.merchant(M1).total_credits_purchased == 0


def test_the_same_webhook_a_hundred_times_grants_once() -> None:
    world = World().created()
    world.charged()

    for _ in range(100):
        world.webhook("ACTIVE")

    assert kinds(world.log) == ["credits.purchased"]
    assert world.merchant().total_credits_purchased == 100


def test_what_is_parked_falls_due() -> None:
    world = World().created()
    world.webhook("ACTIVE", charge="nobody's")

    due = world.rows.next_due(M1, world.policy.purchase_expiry)

    assert due == world.now + timedelta(hours=24)
