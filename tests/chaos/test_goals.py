"""The goals of three brokers, and what they are held against."""

from typing import Any

import pytest

from chaos.goals import Goals, rows
from chaos.nemesis import Fault
from chaos.service import Gaps


def fault(kind: str, p50: float, longest: float, **fields: Any) -> Fault:
    """A fault that was made."""
    wanted: dict[str, Any] = {"exits": [], "unasked": 0, "invalid": "", **fields}
    return Fault(
        1,
        kind,
        0.0,
        None,
        "",
        1.0,
        0.0,
        in_flight=1,
        service_p50=p50,
        service_max=longest,
        **wanted,
    )


@pytest.mark.parametrize(
    ("session_ms", "seconds", "met"),
    [(None, 14.9, True), (None, 15.1, False), (6000, 7.9, True), (6000, 8.1, False)],
)
def test_a_killed_broker_is_held_against_the_goal_of_its_session(
    session_ms: int | None, seconds: float, met: bool
) -> None:
    faults = [fault("kill-leader", seconds, 40.0), fault("kill-txn", seconds, 40.0)]

    assert (Goals(session_ms).missed(faults) == []) is met


@pytest.mark.parametrize("kind", ["freeze-group", "cut-off"])
def test_an_unreachable_broker_is_held_against_thirty_seconds(kind: str) -> None:
    assert Goals(None).missed([fault(kind, 29.0, 29.9)]) == []
    [missed] = Goals(None).missed([fault(kind, 10.0, 30.1)])
    assert "30.1 s" in missed


def test_a_worker_that_ends_for_one_broker_misses_a_goal() -> None:
    ended: dict[str, Any] = {"exits": ["0:75"], "unasked": 1}

    [missed] = Goals(None).missed([fault("rolling", 1.0, 2.0, **ended)])

    assert "workers ended: 0:75" in missed
    assert Goals(None).missed([fault("two-away", 1.0, 2.0, **ended)]) == []


def test_the_table_leaves_invalid_faults_out_of_its_seconds() -> None:
    _, row = rows([fault("slow", 2.0, 3.0), fault("slow", 90.0, 99.0, invalid="no data came")])

    assert row.split() == ["slow", "1", "2.0", "3.0", "0", "1"]


def test_gaps_are_the_median_and_the_longest_of_the_partitions() -> None:
    assert Gaps.of([1.0, 2.0, 9.0, 30.0]) == Gaps(2.0, 30.0)
