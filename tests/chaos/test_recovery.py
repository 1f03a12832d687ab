"""The statistics of recoveries, and the verdict."""

from collections import Counter

import pytest

from chaos.nemesis import Fault
from chaos.recovery import Recoveries, percentile, slope
from chaos.report import EXIT_FAULT, EXIT_GOOD, EXIT_INVALID, Report
from chaos.soak import trend


def fault(
    seconds: float | None, *, kind: str = "kill", number: int = 1, invalid: str = ""
) -> Fault:
    return Fault(number, kind, 0.0, 0, "", seconds, 0.5, invalid, 5, [])


def report(*faults: Fault, problems: tuple[str, ...] = (), stuck: tuple[str, ...] = ()) -> Report:
    none: Counter[str] = Counter()
    return Report(1, 4, list(faults), [], 0, 0, 1.0, none, list(problems), list(stuck))


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 101)]

    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([3.0], 0.99) == 3
    assert percentile([], 0.5) == 0


def test_both_goals_must_be_met() -> None:
    assert Recoveries.of([1.0, 15.0, 60.0]).met
    assert not Recoveries.of([16.0, 16.0, 1.0]).met
    assert not Recoveries.of([1.0, 1.0, 61.0]).met


def test_a_good_run_is_good() -> None:
    found = report(fault(3.0), fault(40.0, number=2))

    assert found.code == EXIT_GOOD
    assert any("single faults" in line for line in found.lines())


@pytest.mark.parametrize(
    "found",
    [
        report(fault(3.0), problems=("a credit is missing",)),
        report(fault(3.0), stuck=("t[0]",)),
        report(fault(None)),
        report(fault(61.0)),
    ],
)
def test_anything_found_is_a_fault(found: Report) -> None:
    assert found.code == EXIT_FAULT
    assert found.verdict.startswith("FAULT")


def test_a_fault_that_hit_nothing_at_any_try_makes_the_run_invalid() -> None:
    missed = fault(1.0, number=2, invalid="all work was done before")

    assert report(fault(1.0), missed).code == EXIT_INVALID
    assert report(fault(1.0), missed, fault(1.0, number=2)).code == EXIT_GOOD
    assert report().code == EXIT_INVALID


def test_storms_are_no_single_faults() -> None:
    assert report(fault(1.0), fault(90.0, kind="kill-storm", number=2)).recoveries.longest == 1


def test_a_line_that_rises_is_told_from_noise() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope([(1, 1)]) == 0
    noise = [(n * 10.0, 100.0 + n % 7) for n in range(360)]
    leak = [(at, value + at / 60) for at, value in noise]

    assert trend("noise", noise).flat
    assert not trend("leak", leak).flat
    assert trend("leak", leak).per_hour == pytest.approx(60, rel=0.05)
