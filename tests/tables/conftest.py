"""Both kinds of stores, for tests that hold for either."""

from collections.abc import Iterator

import pytest

from tests.support.stores import KINDS, Stores
from tests.support.stores import stores as new_stores


@pytest.fixture(scope="module", params=KINDS)
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    """One kind after the other."""
    with new_stores(request.param) as made:
        yield made
