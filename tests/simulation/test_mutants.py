"""The simulation is worth what it finds: an engine broken on purpose does not pass."""

from itertools import chain

import pytest

from tests.simulation.catalogue_mutants import CATALOGUE_MUTANTS
from tests.simulation.loop import simulate
from tests.simulation.mutants import CHARGE_MUTANTS, MUTANTS, ORDER_MUTANTS, Mutant
from tests.simulation.run import run
from tests.simulation.shop_mutants import SHOP_MUTANTS
from tests.simulation.shop_trial_mutants import SHOP_TRIAL_MUTANTS
from tests.simulation.test_simulation import SEEDS
from tests.simulation.world import World
from tests.simulation.written import verified

pytestmark = pytest.mark.logs_errors


@pytest.mark.parametrize(
    "mutant",
    [*MUTANTS, *CHARGE_MUTANTS, *SHOP_MUTANTS, *SHOP_TRIAL_MUTANTS],
    ids=lambda mutant: mutant.name,
)
def test_a_broken_engine_is_found_within_500_seeds(mutant: Mutant) -> None:
    with mutant.alive():
        seeds = chain([mutant.seed], range(SEEDS))
        found = next((r for r in map(run, seeds) if r.problem), None)

    assert found is not None, f"nobody noticed: {mutant.name}"
    assert run(found.seed).problem is None, "it was not the mutant"


@pytest.mark.parametrize("mutant", ORDER_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_wrong_order_is_found_by_verify(mutant: Mutant) -> None:
    with mutant.alive():
        seeds = chain([mutant.seed], range(SEEDS))
        faults = next(found for seed in seeds if (found := faults_of(World(seed))))

    assert faults & {"order", "tables"}


@pytest.mark.parametrize("mutant", CATALOGUE_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_wrong_catalogue_is_found_by_verify(mutant: Mutant) -> None:
    with mutant.alive():
        seeds = chain([mutant.seed], range(SEEDS))
        assert next((seed for seed in seeds if faults_of(World(seed))), None) is not None


def faults_of(world: World) -> set[str]:
    """What verify finds in its log, however it ends."""
    simulate(world.run())
    return verified(world).faults()
