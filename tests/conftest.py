"""One broker and one PostgreSQL for the whole run; topics and databases per test.

With several processes (`make test`) the one that distributes the tests starts the servers while
the others collect; without, the first test that asks for one starts it.
"""

import asyncio
import gc
import logging
import os
import shutil
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.servers import (
    SharedServers,
    broker,
    database,
    delete_topics,
    empty_database,
)
from tests.support.worker import DATA

# jsonschema would build 38 grammars for formats that no schema here has: 2 s in each process.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

OURS = ("billing_stream",)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the broker comes from."""
    parser.addoption(
        "--kafka",
        choices=["embedded", "docker", "env"],
        default="env" if os.environ.get("KAFKA_BOOTSTRAP_SERVERS") else "embedded",
        help="embedded: started here; docker: a container; env: KAFKA_BOOTSTRAP_SERVERS "
        "(the default when that is set)",
    )


SERVERS = pytest.StashKey[SharedServers]()
FOLDER = "billing_stream_servers"


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers that several processes share."""
    # A process started in the background ignores these, and so would all that it starts.
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        config.stash[SERVERS] = SharedServers(config.getoption("--kafka"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the folder with the servers' addresses to a process."""
    node.workerinput[FOLDER] = str(node.config.stash[SERVERS].folder)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Distribute tests over the processes: slow ones first, a shared fixture only once."""
    for item in items:
        scope = _shared_scope(item)
        if scope is not None:
            item.add_marker(pytest.mark.xdist_group(scope))
    items.sort(key=lambda item: not _needs_a_server(item))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fail where pytest and pytest-xdist together do not keep groups: each would start servers."""
    for item in session.items if session.config.getoption("loadgroup", False) else ():
        if item.get_closest_marker("xdist_group") is not None and "@" not in item.nodeid:
            raise pytest.UsageError("this pytest-xdist cannot group tests under this pytest")


def _shared_scope(item: pytest.Item) -> str | None:
    """The module or package whose fixture this test shares with others, if any."""
    definitions = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009 - private
    ours = {found[-1].scope: found[-1].baseid for found in definitions if found[-1].baseid}
    if "package" in ours:
        return str(ours["package"])
    return item.nodeid.partition("::")[0] if "module" in ours else None


def _needs_a_server(item: pytest.Item) -> bool:
    return not {"kafka", "postgres", "secured"}.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Let plugins import what they need for their reports without a garbage collection.

    One while a module's source is parsed can end CPython 3.11 with SystemError, after all tests
    have passed (python/cpython#106905).
    """
    gc.disable()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the shared servers; delete what processes without a folder of their own wrote."""
    shutil.rmtree(DATA, ignore_errors=True)
    if SERVERS in config.stash:
        config.stash[SERVERS].close()


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
    if FOLDER in shared:
        yield SharedServers.address(shared[FOLDER], "kafka")
        return
    with broker(request.config.getoption("--kafka"), tmp_path_factory.mktemp("kafka")) as servers:
        yield servers


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """The DATABASE_URL of a real PostgreSQL; that of the environment with --kafka=env."""
    shared: dict[str, str] = getattr(request.config, "workerinput", {})
    if FOLDER in shared:
        yield SharedServers.address(shared[FOLDER], "postgres")
        return
    with database(request.config.getoption("--kafka")) as url:
        yield url


@pytest_asyncio.fixture
async def postgres_url(postgres: str) -> AsyncIterator[str]:
    """The DATABASE_URL of an empty database of this test alone."""
    async with empty_database(postgres) as url:
        yield url


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    """A topic prefix of this test alone; its topics go with it, since many make a broker slow."""
    prefix = f"t{uuid.uuid4().hex[:10]}."
    # The fixture that was asked for earlier is the one that ends later.
    kafka = request.getfixturevalue("kafka") if "kafka" in request.fixturenames else None
    yield prefix
    if kafka is not None:
        asyncio.run(delete_topics(kafka, prefix))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the files of worker processes."""
    return tmp_path


@pytest.fixture(autouse=True)
def no_silenced_logs() -> Iterator[None]:
    """Logs that a command silences for its process are heard again in the next test."""
    before = dict(_levels())
    yield
    for name, level in _levels():
        if level == logging.CRITICAL:
            logging.getLogger(name).setLevel(before.get(name, logging.NOTSET))


def _levels() -> list[tuple[str, int]]:
    loggers = logging.root.manager.loggerDict.items()
    return [(name, each.level) for name, each in loggers if isinstance(each, logging.Logger)]


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
