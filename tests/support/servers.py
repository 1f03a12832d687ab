"""The broker and the database of a run of tests: started here, a container, or given."""

import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from billing_stream.dev.cluster import Cluster, postgres_alone
from billing_stream.dev.kafka import wait_transactional
from tests.support.containers import kafka_container

START_SECONDS_MAX = 180.0


class SharedServers:
    """A broker and a PostgreSQL for several processes, started in the background.

    `folder` gets a file per server that is ready, with its address. `kind` as for `broker`.
    """

    def __init__(self, kind: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="billing-stream-test-"))
        self._stack = ExitStack()
        self._pool = ThreadPoolExecutor(2)
        self._pool.submit(self._start, "kafka", broker(kind, self.folder / "servers"))
        self._pool.submit(self._start, "postgres", database(kind))

    def _start(self, name: str, server: AbstractContextManager[str]) -> None:
        try:
            text = f"={self._stack.enter_context(server)}"
        except Exception as error:
            text = f"!{error!r}"
        unfinished = self.folder / f"{name}.unfinished"
        unfinished.write_text(text)
        unfinished.rename(self.folder / name)

    @staticmethod
    def address(folder: str, name: str) -> str:
        """Where `kafka` or `postgres` listens; waits until it is ready.

        Raises RuntimeError when it could not be started, FileNotFoundError after 180 s.
        """
        text = _read_when_there(Path(folder) / name)
        if text[0] != "=":
            raise RuntimeError(f"{name} could not be started: {text[1:]}")
        return text[1:]

    def close(self) -> None:
        """Stop the servers and delete their data."""
        self._pool.shutdown(wait=True)
        self._stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@retry(
    retry=retry_if_exception_type(FileNotFoundError),
    stop=stop_after_delay(START_SECONDS_MAX),
    wait=wait_fixed(0.1),
    reraise=True,
)
def _read_when_there(file: Path) -> str:
    return file.read_text()


async def delete_topics(servers: str, prefix: str) -> None:
    """Delete what a test created; a broker that is gone by now has none."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    with suppress(KafkaConnectionError):
        try:
            await admin.start()
            names = [name for name in await admin.list_topics() if name.startswith(prefix)]
            if names:
                await admin.delete_topics(names)
        finally:
            await admin.close()


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
