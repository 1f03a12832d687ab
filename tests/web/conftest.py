"""Two workers without a broker, and a merchant with purchases."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.nodes import Cluster, cluster

M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers with two partitions each."""
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as found:
        yield found
