"""Every labelled point x every kind of command x {the same worker, another one takes over}.

In the process, on the simulated log: all of it on every run. `test_on_kafka.py` does the
same with real workers.
"""

from typing import get_args

import pytest

from billing_stream.domain.commands import AnswerTrialClaim, Command
from billing_stream.engine.crash_points import CrashPoint
from tests.crashes.scene import COMMANDS, HAPPENINGS, Happening, crashed, taken_over, undisturbed
from tests.simulation.loop import simulate

points = pytest.mark.parametrize("point", list(CrashPoint))
happenings = pytest.mark.parametrize("happening", HAPPENINGS, ids=lambda one: one.name)


def test_every_kind_of_command_is_there() -> None:
    # An answer to a claim is for a trial that waits; the simulation crashes in these.
    kinds = set(get_args(Command)) - {AnswerTrialClaim}

    assert {type(command) for command in COMMANDS.values()} == kinds


@happenings
def test_what_happens_does_something(happening: Happening) -> None:
    outcome = simulate(undisturbed(happening))

    assert outcome != simulate(undisturbed(Happening("nothing")))
    assert not happening.requests or set(outcome.answers) == {
        command.command_id for command in happening.requests
    }
    assert all(len(answers) == 1 for answers in outcome.answers.values())


@points
@happenings
def test_the_same_worker_starts_again(happening: Happening, point: CrashPoint) -> None:
    outcome = simulate(crashed(happening, point))

    assert outcome == simulate(undisturbed(happening))


@points
@happenings
def test_another_worker_takes_over_and_the_old_one_wakes_up(
    happening: Happening, point: CrashPoint
) -> None:
    outcome = simulate(taken_over(happening, point))

    assert outcome == simulate(undisturbed(happening))
