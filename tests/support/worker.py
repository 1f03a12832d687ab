"""Real worker processes for tests: start, wait until ready, kill, pause, stop."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import mock

import aiohttp

from billing_stream.config.settings import Settings
from billing_stream.kafka import topic_admin
from billing_stream.kafka.client_options import client_options
from billing_stream.records.topics import Topics
from tests.support.ports import free_port
from tests.support.process import Process, start

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


class Worker:
    """One worker process. Its output is in `log`."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"worker-{self.port}.log"
        self.command = [str(BIN), "worker"]
        self._env = {
            **env,
            "BILLING_API_EXTERNAL_PORT": str(self.port),
            "BILLING_API_BIND": "127.0.0.1",
            "BILLING_DATA_DIR": str(folder / f"data-{self.port}"),
        }
        self._process: asyncio.subprocess.Process | Process | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def process(self) -> asyncio.subprocess.Process | Process:
        """The process; an error when it was never started."""
        if self._process is None:
            raise RuntimeError("the worker was not started")
        return self._process

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def _state(self) -> str:
        return "it runs" if self.running else f"it ended with {self.process.returncode}"

    async def start(self) -> None:
        """Start the process, in a group of its own."""
        if self.command[0] == str(BIN):
            self._process = start(self.command[1:], self._env, self.log)
            return
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                env=self._env,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def ready(self, seconds: float = 40.0) -> None:
        """Wait until `/ready` says so; an error with the log when it does not in time."""
        await self._answering(seconds, lambda status: status == 200)

    async def answers(self, seconds: float = 40.0) -> None:
        """Wait until it answers at all, and so has its handlers of signals; else as `ready`."""
        await self._answering(seconds, lambda status: True)

    async def logged(self, text: str, seconds: float = 40.0) -> None:
        """Wait until its log has this text; else as `ready`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            # Asked first: what it wrote last was written before it ended.
            running = self.running
            if text in self.text():
                return
            if not running:
                break
            await asyncio.sleep(0.02)
        raise RuntimeError(f"the log has no {text!r} ({self._state}):\n{self.tail()}")

    async def _answering(self, seconds: float, good: Callable[[int], bool]) -> None:
        end = time.monotonic() + seconds
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < end and self.running:
                try:
                    async with session.get(f"{self.url}/ready", timeout=_SHORT) as response:
                        if good(response.status):
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.1)
        raise RuntimeError(f"the worker did not get ready ({self._state}):\n{self.tail()}")

    def text(self) -> str:
        """The whole log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self) -> str:
        """The end of the log."""
        return self.text()[-4000:]

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def pause(self) -> None:
        """SIGSTOP: the process stands still and knows nothing of it."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.running:
            self.signal(signal.SIGKILL)
            await self.process.wait()

    async def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM, and wait for the end; the exit code."""
        if self.running:
            self.signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), seconds)


_SHORT = aiohttp.ClientTimeout(total=2)


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
