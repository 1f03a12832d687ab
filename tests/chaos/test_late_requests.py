"""A late request of each kind, in each of three later transactions of a real worker, does no harm.

One try of each; more by `make chaos FAULT=late`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from chaos.late import try_cell
from chaos.late_report import Cell, cells
from chaos.late_scene import Cluster, cluster

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def cluster_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Cluster]]:
    """The cluster with a version of transactions, started when it is first asked for."""
    folder = tmp_path_factory.mktemp("late")
    started: dict[int, Cluster] = {}
    with ExitStack() as stack:

        def of(version: int) -> Cluster:
            if version not in started:
                started[version] = stack.enter_context(cluster(folder, 1, version))
            return started[version]

        yield of


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: cell.name.replace(" ", "-"))
async def test_a_late_request_loses_doubles_and_tears_nothing(
    cell: Cell, cluster_of: Callable[[int], Cluster]
) -> None:
    row = await try_cell(cluster_of(cell.version), cell, tries=1)

    assert row.problems == []
    assert [one.line for one in row.tries if not one.good and not one.invalid] == []
    assert row.held == 1, "the fault did not take place"
    assert {one.held.spoken for one in row.tries if one.held is not None} == {cell.version}
