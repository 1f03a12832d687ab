"""Crashes with rows in RocksDB: every point, with everything that can happen at once."""

import pytest

from billing_stream.engine.crash_points import CrashPoint
from tests.crashes.scene import HAPPENINGS, Happening, crashed, taken_over, undisturbed
from tests.simulation.loop import simulate
from tests.support.stores import stores

points = pytest.mark.parametrize("point", list(CrashPoint))
happenings = pytest.mark.parametrize(
    "happening",
    [one for one in HAPPENINGS if one.name in ("timer", "everything at once")],
    ids=lambda one: one.name,
)


@points
@happenings
def test_the_same_worker_starts_again(happening: Happening, point: CrashPoint) -> None:
    with stores("rocksdb") as made:
        outcome = simulate(crashed(happening, point, made.of_partition))

    assert outcome == simulate(undisturbed(happening))


@points
@happenings
def test_another_worker_takes_over_and_the_old_one_wakes_up(
    happening: Happening, point: CrashPoint
) -> None:
    with stores("rocksdb") as made:
        outcome = simulate(taken_over(happening, point, made.of_partition))

    assert outcome == simulate(undisturbed(happening))
