"""A PostgreSQL of these tests alone, which they may stop and kill."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from billing_stream.dev.cluster import Cluster
from billing_stream.dev.postgres import Postgres


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that runs; whether it still does in the end is the test's affair."""
    # Not under pytest's folder: root's cannot be entered by the user PostgreSQL runs under.
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-test-"))
    folder.chmod(0o755)
    try:
        with Cluster(folder, kafka=False, postgres=True, delete=True) as cluster:
            yield cluster.postgres
    finally:
        shutil.rmtree(folder, ignore_errors=True)
