"""A PostgreSQL of these tests alone, which they may stop and kill."""

from collections.abc import Iterator

import pytest

from billing_stream.dev.cluster import postgres_alone
from billing_stream.dev.postgres import Postgres


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that runs; whether it still does in the end is the test's affair."""
    with postgres_alone() as cluster:
        yield cluster.postgres
