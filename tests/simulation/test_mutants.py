"""The simulation is worth what it finds: an engine broken on purpose does not pass."""

from itertools import chain

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.run import run
from tests.simulation.test_simulation import SEEDS

pytestmark = pytest.mark.logs_errors


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_engine_is_found_within_500_seeds(mutant: Mutant) -> None:
    with mutant.alive():
        seeds = chain([mutant.seed], range(SEEDS))
        found = next((r for r in map(run, seeds) if r.problem), None)

    assert found is not None, f"nobody noticed: {mutant.name}"
    assert run(found.seed).problem is None, "it was not the mutant"
