"""Rules of the free trial."""

from datetime import timedelta

from billing_stream.domain.commands import PassTime, StartTrial
from billing_stream.domain.outcomes import (
    ErrorCode,
    Rejected,
    TrialExpired,
    TrialGranted,
    TrialStarted,
)
from tests.support.world import M1, M2, NOW, World, kinds

END = NOW + timedelta(days=14)


def test_a_trial_starts_once_and_announces_its_credits() -> None:
    world = World().created()

    decision = world.do(StartTrial(M1))

    assert decision.reply == TrialGranted(END, 500)
    assert [e.data for e in decision.events] == [TrialStarted(M1, END, 500)]
    merchant = world.merchant()
    assert not merchant.trial_available
    assert (merchant.trial_started_at, merchant.trial_ends_at) == (NOW, END)
    assert merchant.total_credits_purchased == 0, "the total counts purchases only"


def test_a_second_trial_is_refused_and_changes_nothing() -> None:
    world = World().on_trial()
    before = world.merchant()

    decision = world.later(days=1).do(StartTrial(M1))

    assert isinstance(decision.reply, Rejected)
    assert decision.reply.code is ErrorCode.TRIAL_ALREADY_USED
    assert decision.events == ()
    assert world.merchant() == before


def test_a_trial_that_has_expired_cannot_be_started_again() -> None:
    world = World().on_trial().later(days=20)
    world.do(PassTime(M1))

    decision = world.do(StartTrial(M1))

    assert isinstance(decision.reply, Rejected)
    assert kinds(world.log) == ["trial.started", "trial.expired"]


def test_the_end_of_a_trial_is_told_once_with_the_time_it_ended() -> None:
    world = World().on_trial().later(days=30)

    first = world.do(PassTime(M1))
    again = world.later(days=1).do(PassTime(M1))

    assert [e.data for e in first.events] == [TrialExpired(M1, END)]
    assert again.events == ()
    assert again.merchant is None


def test_a_trial_ends_at_its_end_and_not_before() -> None:
    world = World().on_trial()

    before = world.later(days=14, milliseconds=-1).do(PassTime(M1))
    then = world.later(milliseconds=1).do(PassTime(M1))

    assert before.events == ()
    assert kinds(then.events) == ["trial.expired"]


def test_a_trial_is_active_by_the_moment_of_reading_told_or_not() -> None:
    merchant = World().on_trial().merchant()

    assert merchant.trial_active(END - timedelta(seconds=1))
    assert not merchant.trial_active(END)
    assert not World().created().merchant().trial_active(NOW)


def test_what_fell_due_happens_before_the_command_so_a_late_timer_changes_no_outcome() -> None:
    world = World().on_trial()
    world.charged()

    decision = world.later(days=15).webhook("ACTIVE")

    assert kinds(decision.events) == ["trial.expired", "purchase.expired", "credits.purchased"]


def test_a_merchants_time_never_goes_back() -> None:
    world = World().on_trial().later(days=20)
    world.do(PassTime(M1))
    told = world.merchant().updated_at

    world.later(days=-19)
    purchase = world.purchase(world.opened())

    assert purchase.created_at == told
    assert world.merchant().updated_at == told


def test_the_time_of_one_merchant_is_not_that_of_another() -> None:
    world = World().created(M1, M2)
    world.later(days=100).do(StartTrial(M1))

    world.later(days=-100).do(StartTrial(M2))

    assert world.merchant(M2).trial_ends_at == END
