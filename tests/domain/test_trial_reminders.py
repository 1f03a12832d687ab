"""The end of a trial is announced once, TRIAL_REMINDER before it, or not at all."""

from datetime import timedelta

import pytest

from billing_stream.domain.commands import ImportMerchant, StartTrial
from billing_stream.domain.outcomes import TrialEnding
from billing_stream.domain.policy import Policy
from tests.support.world import M1, NOW, World, kinds, told, writes_nothing

DAY, TICK = timedelta(days=1), timedelta(microseconds=1)
END = NOW + 14 * DAY


def test_the_reminder_is_published_three_days_before_the_end() -> None:
    world = World().on_trial()

    before = world.later(days=11, microseconds=-1).tick()
    then = world.later(microseconds=1).tick()

    assert writes_nothing(before)
    assert told(then) == [TrialEnding(M1, END)]


def test_the_reminder_is_published_once_however_often_one_looks() -> None:
    world = World().on_trial()

    for _ in range(40):
        world.later(hours=12).tick()

    assert kinds(world.log) == ["trial.started", "trial.ending", "trial.expired"]


def test_a_late_reminder_is_published_while_the_trial_runs() -> None:
    world = World().on_trial().later(days=14, microseconds=-1)

    assert told(world.tick()) == [TrialEnding(M1, END)]


def test_a_trial_that_has_ended_has_no_reminder() -> None:
    world = World().on_trial().later(days=14)

    assert kinds(told(world.tick())) == ["trial.expired"]


@pytest.mark.parametrize(("trial", "reminded"), [(3 * DAY - TICK, 0), (3 * DAY, 1)])
def test_a_trial_shorter_than_the_reminder_has_none(trial: timedelta, reminded: int) -> None:
    world = World(Policy(trial_duration=trial)).on_trial()

    for _ in range(10):
        world.later(hours=12).tick()

    assert kinds(world.log).count("trial.ending") == reminded


def test_a_reminder_comes_in_its_turn_among_purchases_that_expire() -> None:
    world = World(Policy(trial_duration=5 * DAY)).on_trial()
    world.later(days=1, hours=-1).opened()
    world.later(hours=2).opened()

    decision = world.later(days=1).tick()

    assert kinds(told(decision)) == ["purchase.expired", "trial.ending", "purchase.expired"]


@pytest.mark.parametrize("started_at", [None, NOW - 13 * DAY])
def test_a_running_trial_that_was_imported_has_a_reminder(started_at: object) -> None:
    world = World()
    imported = {"trial_started_at": started_at, "trial_ends_at": NOW + DAY}
    world.do(
        ImportMerchant(merchant_id=M1, created_at=NOW, trial_available=False, **imported)  # type: ignore[arg-type]
    )

    assert told(world.tick()) == [TrialEnding(M1, NOW + DAY)]


def test_a_reminder_changes_nothing_of_the_trial() -> None:
    world = World().on_trial()
    before = world.merchant()

    world.later(days=12).tick()

    after = world.merchant()
    assert (after.trial_ends_at, after.trial_active(world.now)) == (before.trial_ends_at, True)
    assert kinds(told(world.do(StartTrial(M1)))) == []
