"""Rules of the free trial."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from billing_stream.domain.commands import StartTrial
from billing_stream.domain.outcomes import (
    Done,
    ErrorCode,
    TrialExpired,
    TrialGranted,
    TrialStarted,
)
from billing_stream.domain.policy import Policy
from tests.support.world import M1, NOW, World, code_of, kinds, told, writes_nothing

END = NOW + timedelta(days=14)


def test_a_trial_starts_and_announces_its_credits_which_are_not_purchased() -> None:
    world = World().created()
    before = world.merchant()

    decision = world.do(StartTrial(M1))

    assert decision.reply == TrialGranted(END, 500)
    assert told(decision) == [TrialStarted(M1, END, 500)]
    assert world.merchant() == replace(
        before,
        trial_available=False,
        trial_started_at=NOW,
        trial_ends_at=END,
        version=2,
        sequence=1,
    )
    assert world.merchant().total_credits_purchased == 0


def test_the_length_and_the_credits_of_a_trial_are_policy() -> None:
    world = World(Policy(trial_duration=timedelta(seconds=90), trial_credits=7)).created()

    decision = world.do(StartTrial(M1))

    assert decision.reply == TrialGranted(NOW + timedelta(seconds=90), 7)


@pytest.mark.parametrize("days", [0, 1, 14, 400])
def test_a_second_trial_is_refused_and_changes_nothing(days: int) -> None:
    world = World().on_trial().later(days=days)
    world.tick()
    before = world.everything()

    decision = world.do(StartTrial(M1))

    assert code_of(decision) is ErrorCode.TRIAL_ALREADY_USED
    assert writes_nothing(decision)
    assert world.everything() == before


def test_a_trial_under_another_plan_is_refused_too() -> None:
    world = World().on_trial().later(days=20)
    world.policy = Policy(trial_duration=timedelta(days=30), trial_credits=900)

    decision = world.do(StartTrial(M1))

    assert code_of(decision) is ErrorCode.TRIAL_ALREADY_USED
    assert kinds(decision.events) == ["trial.expired"]
    assert world.merchant().trial_ends_at == END


def test_the_end_of_a_trial_is_told_once_however_often_one_looks() -> None:
    world = World().on_trial().later(days=30)

    first = world.tick()
    before = world.everything()
    later = [world.later(days=1).tick() for _ in range(20)]

    assert first.reply == Done()
    assert told(first) == [TrialExpired(M1, END)]
    assert all(writes_nothing(decision) for decision in later)
    assert world.everything() == before
    assert kinds(world.log) == ["trial.started", "trial.expired"]


def test_the_end_of_a_trial_changes_nothing_but_that_it_is_told() -> None:
    world = World().on_trial()
    before = world.merchant()

    world.later(days=30).tick()

    assert world.merchant() == replace(
        before,
        trial_expired=True,
        updated_at=NOW + timedelta(days=30),
        version=before.version + 1,
        sequence=before.sequence + 1,
    )
    assert world.merchant().trial_ends_at == END
    assert not world.merchant().trial_available


def test_a_trial_ends_at_its_end_and_not_before() -> None:
    world = World().on_trial()

    world.later(days=12).tick()

    before = world.later(days=2, microseconds=-1).tick()
    then = world.later(microseconds=1).tick()

    assert writes_nothing(before)
    assert told(then) == [TrialExpired(M1, END)]


def test_a_trial_that_was_never_started_never_ends() -> None:
    world = World().created()

    decision = world.later(days=1000).tick()

    assert writes_nothing(decision)
    assert world.merchant().trial_available


def test_a_trial_is_active_by_the_moment_of_reading_told_or_not() -> None:
    merchant = World().on_trial().merchant()

    assert merchant.trial_active(END - timedelta(microseconds=1))
    assert not merchant.trial_active(END)
    assert not World().created().merchant().trial_active(NOW)
