"""The broker and the database of a run of tests: started here, a container, or given."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from billing_stream.dev.cluster import Cluster, postgres_alone
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
    with postgres_alone() as cluster:
        yield cluster.database_url


@asynccontextmanager
async def empty_database(postgres: str) -> AsyncIterator[str]:
    """The DATABASE_URL of a database of its own, on the server of this one."""
    name = f"t{uuid.uuid4().hex[:10]}"
    admin = await asyncpg.connect(postgres)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield urlsplit(postgres)._replace(path=f"/{name}").geturl()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()
