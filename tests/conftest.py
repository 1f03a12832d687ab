"""One broker for the whole run, started when the first test asks for it; own topics per test.

With several processes (`-n 2`) it is started before them.
"""

import logging
import os
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# Imported late, by its own plugin at the end of the run, it can crash CPython 3.11: a garbage
# collection while it is compiled (python/cpython#106905).
import hypothesis as hypothesis
import pytest
import pytest_asyncio

from tests.support.servers import broker, database, empty_database

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


SERVERS = pytest.StashKey[tuple[ExitStack, dict[str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    """Several processes share the servers of the one that has started them, and end with it."""
    # Whoever starts us in the background has us ignore these, and so all that we start.
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    if not config.getoption("numprocesses", None) or hasattr(config, "workerinput"):
        return
    kind, stack = config.getoption("--kafka"), ExitStack()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="billing-stream-test-")))
    servers = {
        "kafka": stack.enter_context(broker(kind, folder)),
        "postgres": stack.enter_context(database(kind)),
    }
    config.stash[SERVERS] = (stack, servers)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process where the servers are."""
    node.workerinput.update(node.config.stash[SERVERS][1])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the shared servers."""
    if SERVERS in config.stash:
        config.stash[SERVERS][0].close()


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
    shared: dict[str, str] = getattr(request.config, "workerinput", {})
    if "kafka" in shared:
        yield shared["kafka"]
        return
    with broker(request.config.getoption("--kafka"), tmp_path_factory.mktemp("kafka")) as servers:
        yield servers


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """The DATABASE_URL of a real PostgreSQL; that of the environment with --kafka=env."""
    shared: dict[str, str] = getattr(request.config, "workerinput", {})
    if "postgres" in shared:
        yield shared["postgres"]
        return
    with database(request.config.getoption("--kafka")) as url:
        yield url


@pytest_asyncio.fixture
async def postgres_url(postgres: str) -> AsyncIterator[str]:
    """The DATABASE_URL of an empty database of this test alone."""
    async with empty_database(postgres) as url:
        yield url


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
