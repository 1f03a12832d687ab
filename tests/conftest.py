"""One broker for the whole run, started when the first test asks for it; own topics per test."""

import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

# Imported late, by its own plugin at the end of the run, it can crash CPython 3.11: a garbage
# collection while it is compiled (python/cpython#106905).
import hypothesis as hypothesis
import pytest
import pytest_asyncio

from billing_stream.dev.cluster import Cluster
from billing_stream.dev.kafka import wait_transactional
from tests.support.containers import kafka_container

OURS = ("billing_stream", "agents", "tables", "web")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the broker comes from."""
    parser.addoption(
        "--kafka",
        choices=["embedded", "docker", "env"],
        default="env" if os.environ.get("KAFKA_BOOTSTRAP_SERVERS") else "embedded",
        help="embedded: started here; docker: a container; env: KAFKA_BOOTSTRAP_SERVERS "
        "(the default when that is set)",
    )


@pytest.fixture(scope="session", autouse=True)
def no_env_file() -> Iterator[None]:
    """A developer's own `.env` is none of the tests' business."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BILLING_ENV_FILE", "")
        yield


@pytest.fixture(scope="session")
def kafka(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The bootstrap servers of a real broker."""
    kind = request.config.getoption("--kafka")
    if kind == "env":
        servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        wait_transactional(servers)
        yield servers
    elif kind == "docker":
        with kafka_container() as servers:
            wait_transactional(servers)
            yield servers
    else:
        with Cluster(tmp_path_factory.mktemp("kafka"), kafka=True) as cluster:
            yield cluster.bootstrap_servers


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """The DATABASE_URL of a real PostgreSQL; that of the environment with --kafka=env."""
    url = os.environ.get("DATABASE_URL")
    if request.config.getoption("--kafka") == "env" and url:
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


@pytest_asyncio.fixture
async def postgres_url(postgres: str) -> AsyncIterator[str]:
    """The DATABASE_URL of an empty database of this test alone."""
    name = f"t{uuid.uuid4().hex[:10]}"
    admin = await asyncpg.connect(postgres)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield urlsplit(postgres)._replace(path=f"/{name}").geturl()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
def prefix() -> str:
    """A topic prefix of this test alone."""
    return f"t{uuid.uuid4().hex[:10]}."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the files of worker processes."""
    return tmp_path


@pytest.fixture(autouse=True)
def no_unexpected_errors(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """A test in which our code logged an error that it did not mean to is a failed test."""
    yield
    if request.node.get_closest_marker("logs_errors"):
        return
    errors = [
        record.getMessage()
        for when in ("setup", "call")
        for record in caplog.get_records(when)
        if record.levelno >= logging.ERROR and record.name.split(".")[0] in OURS
    ]
    assert not errors, f"our code logged errors: {errors}"
