"""The seeded plan of faults."""

from collections import Counter

import pytest

from chaos.broker_faults import STRIKES_OF_THREE
from chaos.faults import OF_ALL, STRIKES
from chaos.plan import KINDS, KINDS_OF_THREE, SINGLES, Plan, Step


def steps(seed: int, count: int = 40, only: tuple[str, ...] = ()) -> list[Step]:
    plan = Plan(seed, 600, only)
    found = [plan.next(number * 15) for number in range(count)]
    return [step for step in found if step is not None]


def test_the_same_seed_gives_the_same_plan() -> None:
    assert steps(7) == steps(7)
    assert steps(7) != steps(8)


def test_the_single_faults_are_the_same_whenever_they_are_asked_for() -> None:
    slow, fast = Plan(7, 600), Plan(7, 600)

    of_slow = [slow.next(number * 40) for number in range(15)]
    of_fast = [fast.next(0) for _ in range(9)]

    def singles(found: list[Step | None]) -> list[tuple[str, float]]:
        return [(s.kind, s.strength) for s in found if s is not None and s.kind in SINGLES]

    assert singles(of_slow)[:9] == singles(of_fast)


def test_every_kind_comes_and_single_faults_come_evenly() -> None:
    found = Counter(step.kind for step in steps(3))

    assert set(found) == set(KINDS)
    assert max(found[kind] for kind in SINGLES) - min(found[kind] for kind in SINGLES) <= 1
    assert found["outage"] == 1


def test_only_what_was_asked_for_comes() -> None:
    assert {step.kind for step in steps(3, only=("kill", "term"))} == {"kill", "term"}
    assert {step.kind for step in steps(3, only=("outage",))} == {"outage"}
    with pytest.raises(ValueError, match="no such faults: earthquake"):
        Plan(1, 600, ["earthquake"])


def test_with_three_brokers_other_faults_come_each_as_often() -> None:
    plan = Plan(3, 600, brokers=3)
    found = Counter(step.kind for step in [plan.next(0) for _ in range(32)] if step is not None)

    assert found == dict.fromkeys(KINDS_OF_THREE, 2)
    assert set(STRIKES_OF_THREE) == set(KINDS_OF_THREE)
    with pytest.raises(ValueError, match="no such faults: broker-kill"):
        Plan(1, 600, ["broker-kill"], brokers=3)


def test_every_kind_can_be_made() -> None:
    assert set(STRIKES) == set(KINDS)
    assert set(OF_ALL) < set(KINDS)


def test_the_outage_is_five_minutes_long_unless_the_run_is_short() -> None:
    assert Plan(1, 30 * 60).outage_seconds == 300
    assert Plan(1, 4 * 60).outage_seconds == 48
