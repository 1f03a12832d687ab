"""The simulated worlds again, with rows in RocksDB: nobody can tell the difference."""

import pytest

from tests.simulation.run import run
from tests.simulation.world import World
from tests.support.stores import stores


@pytest.mark.parametrize("seed", range(40))
def test_a_world_is_the_same_with_rows_in_rocksdb(seed: int) -> None:
    with stores("rocksdb") as made:
        found = run(seed, lambda seed: World(seed, new_store=made.of_partition))

    assert found.problem is None
    assert found.trace == run(seed).trace
