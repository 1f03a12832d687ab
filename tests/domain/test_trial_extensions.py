"""Operators extend trials: the end moves, or a new period begins; each end is told once."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from billing_stream.domain.commands import Command, ExtendTrial, ImportMerchant, StartTrial
from billing_stream.domain.ids import derived_id
from billing_stream.domain.outcomes import (
    Decision,
    ErrorCode,
    TrialEnding,
    TrialExpired,
    TrialExtended,
    TrialExtensionMade,
)
from tests.support.world import M1, M2, NOW, World, code_of, kinds, told, writes_nothing

DAY = timedelta(days=1)
END = NOW + 14 * DAY
_decode: Callable[[str], Any] = msgspec.json.Decoder(Command).decode


def extension_id(key: str = "key", merchant: str = M1) -> str:
    return derived_id("trial.extension", merchant, key)


def extend(world: World, key: str = "key", merchant: str = M1, **end: Any) -> Decision:
    return world.do(ExtendTrial(merchant, "ticket 1", key, **(end or {"days": 7})))


def ids_of(world: World, kind: str) -> list[str]:
    return [event.event_id for event in world.events if event.data.kind == kind]


def test_days_of_a_trial_that_runs_count_from_its_end() -> None:
    world = World().on_trial().later(days=1)

    decision = extend(world, days=7)

    assert decision.reply == TrialExtensionMade(extension_id(), END + 7 * DAY)
    assert told(decision) == [TrialExtended(M1, END + 7 * DAY, extension_id())]
    assert world.merchant().trial_ends_at == END + 7 * DAY


def test_an_extended_trial_has_one_expiry_and_a_reminder_of_its_new_end() -> None:
    world = World().on_trial().later(days=12)
    world.tick()

    extend(world, days=7)
    for _ in range(30):
        world.later(days=1).tick()

    new = END + 7 * DAY
    assert world.log[1:] == [
        TrialEnding(M1, END),
        TrialExtended(M1, new, extension_id()),
        TrialEnding(M1, new),
        TrialExpired(M1, new),
    ]
    assert len(set(ids_of(world, "trial.ending"))) == 2
    assert ids_of(world, "trial.expired") == [derived_id("trial.expired", M1)]


def test_a_trial_that_has_ended_begins_a_new_period_with_its_own_expiry() -> None:
    world = World().on_trial().later(days=20)
    world.tick()

    decision = extend(world, days=5)
    world.later(days=2).tick()
    world.later(days=3).tick()

    new = NOW + 25 * DAY
    assert told(decision) == [TrialExtended(M1, new, extension_id())]
    assert world.log[2:] == [*told(decision), TrialEnding(M1, new), TrialExpired(M1, new)]
    assert ids_of(world, "trial.expired") == [
        derived_id("trial.expired", M1),
        derived_id("trial.expired", M1, extension_id()),
    ]
    assert world.merchant().trial_started_at == NOW


def test_an_expiry_that_is_late_is_published_before_the_new_period() -> None:
    world = World().on_trial().later(days=20)

    assert kinds(told(extend(world, days=5))) == ["trial.expired", "trial.extended"]


def test_an_extension_within_a_new_period_moves_the_end_of_that_period() -> None:
    world = World().on_trial().later(days=20)
    extend(world, "one", days=5)
    extend(world, "two", days=5)

    world.later(days=10).tick()

    own = derived_id("trial.expired", M1, extension_id("one"))
    assert ids_of(world, "trial.expired")[1:] == [own]


def test_a_new_period_shorter_than_the_reminder_is_not_announced() -> None:
    world = World().on_trial().later(days=20)
    extend(world, days=2)

    for _ in range(8):
        world.later(hours=12).tick()

    assert kinds(world.log) == ["trial.started", "trial.expired", "trial.extended", "trial.expired"]


@pytest.mark.parametrize("later", [0, 1, 400])
def test_the_same_again_changes_nothing_however_much_later(later: int) -> None:
    world = World().on_trial()
    first = extend(world)
    world.later(days=later).tick()

    again = extend(world)

    assert again.reply == first.reply
    assert writes_nothing(again)


@pytest.mark.parametrize("other", [{"days": 8}, {"ends_at": END + 8 * DAY}])
def test_a_key_with_other_parameters_is_refused(other: dict[str, Any]) -> None:
    world = World().on_trial()
    extend(world)

    assert code_of(extend(world, **other)) is ErrorCode.IDEMPOTENCY_KEY_REUSED


def test_merchants_have_keys_of_their_own() -> None:
    world = World().on_trial(M1).on_trial(M2)

    assert extend(world).reply != extend(world, merchant=M2).reply


@pytest.mark.parametrize(
    "ends_at", [END, END - DAY, NOW - DAY, NOW + 3653 * DAY + timedelta(microseconds=1)]
)
def test_an_end_that_comes_nearer_or_is_far_away_is_refused(ends_at: Any) -> None:
    world = World().on_trial()

    decision = extend(world, ends_at=ends_at)

    assert code_of(decision) is ErrorCode.INVALID_TRIAL_END
    assert writes_nothing(decision)
    # The key stays free.
    assert isinstance(extend(world, days=1).reply, TrialExtensionMade)


def test_a_trial_that_never_started_cannot_be_extended() -> None:
    assert code_of(extend(World().created())) is ErrorCode.TRIAL_NOT_EXTENDABLE


def test_nobody_unknown_or_forgotten_has_a_trial_extended() -> None:
    gone = World().on_trial()
    gone.forget()

    assert code_of(extend(World())) is ErrorCode.MERCHANT_NOT_FOUND
    assert code_of(extend(gone)) is ErrorCode.MERCHANT_NOT_FOUND


def test_a_trial_is_extended_a_hundred_times_at_most() -> None:
    world = World().on_trial()
    for number in range(100):
        extend(world, str(number), days=1)

    assert code_of(extend(world, "more")) is ErrorCode.TRIAL_NOT_EXTENDABLE


def test_an_imported_trial_of_which_no_end_is_known_gets_a_period() -> None:
    world = World()
    world.do(ImportMerchant(merchant_id=M1, created_at=NOW, trial_available=False))

    extend(world, days=7)
    world.later(days=7).tick()

    assert kinds(world.log) == ["trial.imported", "trial.extended", "trial.expired"]


def test_the_answer_to_the_start_of_a_trial_stays_what_it_was() -> None:
    world = World().created()
    first = world.do(StartTrial(M1, "start")).reply

    extend(world)

    assert world.do(StartTrial(M1, "start")).reply == first


def test_the_note_is_published_and_the_reason_is_not() -> None:
    world = World().on_trial()
    command = ExtendTrial(M1, "internal", "key", days=7, merchant_note="Take your time")

    (event,) = told(world.do(command))

    assert b"internal" not in msgspec.json.encode(event)
    assert event == TrialExtended(M1, END + 7 * DAY, extension_id(), "Take your time")


@pytest.mark.parametrize(
    "end",
    [
        {},
        {"days": 1, "ends_at": "2026-03-01T00:00:00Z"},
        {"days": 0},
        {"days": 3654},
        {"days": 1.5},
        {"ends_at": "2026-03-01T00:00:00"},
    ],
)
def test_what_names_no_end_is_no_command(end: dict[str, Any]) -> None:
    said = {"merchant_id": M1, "reason": "r", "idempotency_key": "k", "command": "extend_trial"}
    with pytest.raises(msgspec.ValidationError):
        _decode(msgspec.json.encode(said | end).decode())
