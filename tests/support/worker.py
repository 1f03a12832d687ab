"""Real worker processes for tests: start, wait until ready, kill, pause, stop."""

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import mock

from billing_stream.config.settings import Settings
from billing_stream.dev.worker_process import Running, WorkerProcess
from billing_stream.kafka import topic_admin
from billing_stream.kafka.client_options import client_options
from billing_stream.records.topics import Topics
from tests.support.ports import free_port
from tests.support.process import start

CLIENT_SECRET = "client-secret-for-tests-0123456789"
INTERNAL_SECRET = "internal-secret-for-tests-0123456789"
BIN = Path(sys.executable).parent / "billing-stream"
DATA = Path(tempfile.gettempdir()) / f"billing-stream-test-data-{os.getpid()}"
"""Where processes without a folder of their own may write; deleted after the run."""


def environment(kafka: str, prefix: str, **extra: str) -> dict[str, str]:
    """The environment of a process of ours, and nothing else that could be set here."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **inherited,
        "APP_ENV": "test",
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "CLIENT_JWT_SECRET": CLIENT_SECRET,
        "INTERNAL_JWT_SECRET": INTERNAL_SECRET,
        "BILLING_TOPIC_PREFIX": prefix,
        "BILLING_PARTITIONS": "4",
        "BILLING_SESSION_TIMEOUT": "3s",
        "BILLING_DRAIN_DELAY": "50ms",
        # Defaults are fixed, and belong to whatever else runs on this machine.
        "BILLING_API_EXTERNAL_PORT": str(free_port()),
        "BILLING_PROJECTOR_PORT": str(free_port()),
        "BILLING_DATA_DIR": str(DATA / prefix),
        # A developer's own .env is none of the tests' business.
        "BILLING_ENV_FILE": "",
        **extra,
    }


async def run(
    env: Mapping[str, str], *arguments: str, folder: Path | None = None
) -> tuple[int, str]:
    """Run `billing-stream` without a terminal, in `folder`: exit code and output."""
    with tempfile.NamedTemporaryFile(prefix="billing-stream-output-") as output:
        code = await start(arguments, env, Path(output.name), folder).wait()
        return code, output.read().decode()


async def create_topics(env: Mapping[str, str]) -> None:
    """Create the topics of this environment, in this process: starting a command costs 1 s."""
    with mock.patch.dict(os.environ, env, clear=True):
        settings = Settings.from_env()
    await topic_admin.create_topics(
        client_options(settings),
        Topics(settings.app_id, settings.topic_prefix).all(),
        partitions=settings.partitions,
        replication=settings.replication_factor,
    )
    await topic_admin.check_before_start(settings)


class Worker(WorkerProcess):
    """One worker process, forked from a server that has imported it already."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        super().__init__(env, folder, free_port(), [str(BIN), "worker"])

    async def _spawn(self) -> Running:
        if self.command[0] == str(BIN):
            return start(self.command[1:], self.env, self.log)
        return await super()._spawn()


@asynccontextmanager
async def worker(env: Mapping[str, str], folder: Path) -> AsyncIterator[Worker]:
    """A worker that is ready; killed at the end, whatever happened."""
    started = Worker(env, folder)
    await started.start()
    try:
        await started.ready()
        yield started
    finally:
        await started.kill()
