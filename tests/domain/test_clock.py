"""The test clock of one merchant."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from billing_stream.domain.model import PurchaseStatus
from billing_stream.domain.outcomes import ClockMoved, ErrorCode, TrialExpired
from billing_stream.domain.policy import Policy
from billing_stream.records.schemas import encode
from tests.support.world import (
    M1,
    M2,
    NOBODY,
    NOW,
    World,
    code_of,
    kinds,
    told,
    writes_nothing,
)

DAY = timedelta(days=1)


def world() -> World:
    return World(Policy(test_clock=True))


def test_a_trial_is_seen_through_in_one_decision() -> None:
    here = world().on_trial()

    decision = here.move_clock(NOW + 14 * DAY)

    assert decision.reply == ClockMoved(NOW + 14 * DAY)
    assert told(decision) == [TrialExpired(M1, NOW + 14 * DAY)]
    assert here.merchant().updated_at == NOW + 14 * DAY


def test_all_that_falls_due_by_then_happens() -> None:
    here = world().on_trial()
    purchase = here.charged()
    here.webhook("ACTIVE", "of nobody")

    decision = here.move_clock(NOW + 15 * DAY)

    assert kinds(decision.events) == ["purchase.expired", "trial.expired"]
    assert all(event.at == NOW + 15 * DAY for event in decision.events)
    assert here.purchase(purchase).status == PurchaseStatus.EXPIRED
    assert [parked.charge_id for parked in here.unclaimed] == ["of nobody"]


def test_what_is_not_due_by_then_does_not_happen() -> None:
    here = world().on_trial()

    assert here.move_clock(NOW + 11 * DAY - timedelta(microseconds=1)).events == ()


def test_other_merchants_keep_their_time() -> None:
    here = world().on_trial(M1).on_trial(M2)

    here.move_clock(NOW + 30 * DAY)

    assert here.tick(M2).events == ()
    assert here.merchant(M2).updated_at == NOW


def test_later_decisions_are_made_by_the_clock() -> None:
    here = world().created()
    here.move_clock(NOW + 30 * DAY)

    purchase = here.opened()

    assert here.purchase(purchase).created_at == NOW + 30 * DAY


@pytest.mark.parametrize("to", [NOW + 3 * DAY, NOW, NOW - DAY, datetime.min.replace(tzinfo=UTC)])
def test_a_clock_never_goes_back(to: datetime) -> None:
    here = world().created()
    here.move_clock(NOW + 3 * DAY)

    decision = here.move_clock(to)

    assert decision.reply == ClockMoved(NOW + 3 * DAY)
    assert writes_nothing(decision)


def test_clocks_are_kept_in_utc() -> None:
    there = timezone(timedelta(hours=5))
    here = world().created()

    here.move_clock((NOW + DAY).astimezone(there))

    assert here.merchant().updated_at == NOW + DAY
    assert "+05:00" not in encode(here.merchant()).decode()


@pytest.mark.parametrize(
    "to",
    [NOW + 3653 * DAY + timedelta(microseconds=1), datetime.max.replace(tzinfo=UTC)],
)
def test_a_clock_goes_ten_years_ahead_at_most(to: datetime) -> None:
    here = world().on_trial()
    here.move_clock(NOW + 3653 * DAY)
    before = here.everything()

    decision = here.move_clock(to)

    assert code_of(decision) == ErrorCode.CLOCK_REFUSED
    assert writes_nothing(decision)
    assert here.everything() == before


def test_there_is_no_test_clock_in_production() -> None:
    here = World().on_trial()

    decision = here.move_clock(NOW + 14 * DAY)

    assert code_of(decision) == ErrorCode.CLOCK_REFUSED
    assert writes_nothing(decision)


def test_an_unknown_merchant_has_no_clock() -> None:
    here = world()
    here.webhook("ACTIVE")

    assert code_of(here.move_clock(NOW + DAY)) == ErrorCode.MERCHANT_NOT_FOUND
    assert code_of(here.move_clock(NOW + DAY, NOBODY)) == ErrorCode.MERCHANT_NOT_FOUND
