"""Combined transactions that the group fences keep their promises, in whatever order."""

import pytest

from tests.membership.explore import explore
from tests.membership.model import Protocol
from tests.membership.mutants import MUTANTS, Mutant
from tests.membership.old_release import SPOILED, Spoiled, WithOldRelease
from tests.membership.states import Left
from tests.membership.writing import READ_BEFORE

# Half a minute. Memory: about 2 kB for each state.
FEW = (
    Protocol(Left()),
    Protocol(Left(crashes=1)),
    Protocol(Left(crashes=1), settled=True),
    Protocol(Left(ids=1), settled=True),
    Protocol(Left(answers=1), settled=True),
    Protocol(Left(markers=1), settled=True),
    Protocol(Left(crashes=1, markers=1), settled=True),
    Protocol(Left(restarts=1), settled=True),
    Protocol(Left(ends=1), settled=True, version=1, rounds=2),
    WithOldRelease(Left(), old=0, settled=True),
    WithOldRelease(Left(), old=2, settled=True),
    WithOldRelease(Left(crashes=1), old=0, settled=True),
)
# Minutes, each.
MANY = (
    Protocol(Left(), generations=3, settled=True),
    Protocol(Left(crashes=1), generations=3, settled=True),
    Protocol(Left(markers=1), generations=3, settled=True),
    Protocol(Left(ids=1, markers=1), settled=True),
    Protocol(Left(answers=1, ids=1, markers=1), settled=True),
    Protocol(Left(crashes=1, answers=1, markers=1), settled=True, rounds=2),
    Protocol(Left(crashes=1, markers=1, restarts=1), settled=True),
    Protocol(Left(offsets=1), settled=True, version=1, rounds=2),
    Protocol(Left(offsets=1, markers=1), settled=True, version=1, rounds=2),
    Protocol(Left(crashes=1, ends=1), settled=True, version=1, rounds=2),
    WithOldRelease(Left(), old=0),
    WithOldRelease(Left(), old=2),
    WithOldRelease(Left(crashes=2), old=0, settled=True),
    WithOldRelease(Left(), old=0, settled=True, generations=3),
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


@pytest.mark.parametrize("spoiled", SPOILED, ids=lambda one: one.protocol.__name__)
def test_an_old_worker_that_goes_on_to_write_is_found(spoiled: Spoiled) -> None:
    protocol = spoiled.protocol(Left(), old=0, settled=spoiled.settled)

    assert READ_BEFORE in str(explore(protocol, READ_BEFORE).fault)
