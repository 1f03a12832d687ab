"""The ownership protocol of combined transactions keeps its promises, in whatever order."""

import pytest

from tests.ownership.explore import explore
from tests.ownership.model import Protocol
from tests.ownership.mutants import MUTANTS, Mutant
from tests.ownership.old_release import SPOILED, WithOldRelease
from tests.ownership.states import Left

# 150,000 states. Memory: about 2 kB for each.
FEW = (
    Protocol(Left()),
    Protocol(Left(crashes=1), settled=True),
    Protocol(Left(locks=1), settled=True),
    Protocol(Left(answers=1), settled=True),
    Protocol(Left(ends=1), settled=True),
    Protocol(Left(markers=1), settled=True),
    WithOldRelease(Left(), old=0, settled=True),
    WithOldRelease(Left(), old=2, settled=True),
)
# Minutes, each.
MANY = (
    Protocol(Left(crashes=1)),
    Protocol(Left(markers=1)),
    Protocol(Left(ids=1), settled=True),
    Protocol(Left(ends=1), settled=True, version=1, rounds=2),
    Protocol(Left(crashes=1, markers=1), settled=True),
    Protocol(Left(crashes=1, locks=1, answers=1), settled=True),
    Protocol(Left(crashes=2), settled=True),
    Protocol(Left(crashes=1), settled=True, parallel=True),
    WithOldRelease(Left(crashes=1), old=0, settled=True),
    WithOldRelease(Left(), old=0),
)


@pytest.mark.parametrize("protocol", FEW, ids=str)
def test_no_order_of_steps_breaks_a_promise(protocol: Protocol) -> None:
    found = explore(protocol)

    assert found.fault is None, "\n".join((found.fault, *found.way))
    # Else hardly anything was tried.
    assert found.states > 2_000


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("protocol", MANY, ids=str)
def test_no_order_of_more_steps_breaks_a_promise(protocol: Protocol) -> None:
    found = explore(protocol)

    assert found.fault is None, "\n".join((found.fault, *found.way))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.protocol.__name__)
def test_a_protocol_without_one_of_its_steps_is_found(mutant: Mutant) -> None:
    found = explore(mutant.protocol(mutant.left, **mutant.options), mutant.promise)

    assert found.fault is not None, f"not found in {found.states} states"


@pytest.mark.parametrize("protocol", SPOILED, ids=lambda one: type(one).__name__)
def test_an_old_worker_that_goes_on_to_write_is_found(protocol: Protocol) -> None:
    assert "an old worker" in str(explore(protocol).fault)
