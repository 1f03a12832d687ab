"""The broker and the database of a run of tests: started here, a container, or given."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from billing_stream.dev.cluster import Cluster
from billing_stream.dev.kafka import wait_transactional
from tests.support.containers import kafka_container


@contextmanager
def broker(kind: str, folder: Path) -> Iterator[str]:
    """The bootstrap servers of a real broker; `kind` as --kafka has it."""
    if kind == "env":
        servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        wait_transactional(servers)
        yield servers
    elif kind == "docker":
        with kafka_container() as servers:
            wait_transactional(servers)
            yield servers
    else:
        with Cluster(folder, kafka=True) as cluster:
            yield cluster.bootstrap_servers


@contextmanager
def database(kind: str) -> Iterator[str]:
    """The DATABASE_URL of a real PostgreSQL; that of the environment where it is `env`."""
    url = os.environ.get("DATABASE_URL")
    if kind == "env" and url:
        yield url
        return
    # Not under pytest's folder: root's cannot be entered by the user PostgreSQL runs under.
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-test-"))
    folder.chmod(0o755)
    try:
        with Cluster(folder, kafka=False, postgres=True, delete=True) as cluster:
            yield cluster.database_url
    finally:
        shutil.rmtree(folder, ignore_errors=True)
