"""Lanes on both kinds of stores."""

from collections.abc import Iterator

import pytest

from tests.support.partition import Partition
from tests.support.stores import KINDS, stores


@pytest.fixture(params=KINDS)
def either_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every `Partition` keeps its rows in one kind of store, then in the other."""
    with stores(request.param) as made:
        monkeypatch.setattr(Partition, "new_store", staticmethod(made.of_partition))
        yield
