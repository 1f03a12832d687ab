"""What every benchmark needs: topics of its own, worker processes, facts of the machine."""

import asyncio
import os
import platform
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import aiohttp
import psutil
from aiokafka.admin import AIOKafkaAdminClient

from billing_stream.dev.server_process import free_port
from billing_stream.kafka import topic_admin
from billing_stream.records.topics import Topics

READY_SECONDS_MAX = 60.0
RESTORED = re.compile(r"restored partitions .*: (\d+) records in ([\d.]+) s")
OWNED = re.compile(r"ready with (\d+) partitions")


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"  {text}", file=sys.stderr, flush=True)


def machine() -> str:
    """Two lines about the machine and what runs on it."""
    libraries = ("aiokafka", "faust-streaming", "msgspec", "uvloop")
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}; "
        "broker, load generator and worker share them\n"
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in libraries)
    )


def busy_before() -> float:
    """Percent of all cores that others use, over one second; figures suffer from it."""
    return psutil.cpu_percent(interval=1.0)


@dataclass
class Setting:
    """One app on the broker, with topics of its own."""

    kafka: str
    folder: Path
    partitions: int
    prefix: str = field(default_factory=lambda: f"bench{secrets.token_hex(4)}.")
    client_secret: str = field(default_factory=lambda: secrets.token_hex(32))
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def topics(self) -> Topics:
        """The names of its topics."""
        return Topics("billing-stream", self.prefix)

    @property
    def options(self) -> dict[str, str]:
        """Options of Kafka clients."""
        return {"bootstrap_servers": self.kafka}

    async def create_topics(self) -> None:
        """Make the topics."""
        await topic_admin.create_topics(
            self.options, self.topics.all(), partitions=self.partitions, replication=1
        )

    async def delete_topics(self) -> None:
        """Delete every topic under its prefix, those of stock Faust too."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka, request_timeout_ms=20_000)
        await admin.start()
        try:
            ours = [name for name in await admin.list_topics() if name.startswith(self.prefix)]
            if ours:
                await admin.delete_topics(ours)
        finally:
            await admin.close()

    def environment(self) -> dict[str, str]:
        """The environment of a worker."""
        return {
            **os.environ,
            "APP_ENV": "test",
            "BILLING_ENV_FILE": "",
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "CLIENT_JWT_SECRET": self.client_secret,
            "INTERNAL_JWT_SECRET": secrets.token_hex(32),
            "BILLING_TOPIC_PREFIX": self.prefix,
            "BILLING_APP_ID": "billing-stream",
            "BILLING_PARTITIONS": str(self.partitions),
            "BILLING_DATA_DIR": str(self.folder / self.prefix),
            "BILLING_API_BIND": "127.0.0.1",
            "BILLING_WORKER_NAME": "bench",
            "BILLING_DRAIN_DELAY": "50ms",
            "BILLING_REQUESTS_PER_MINUTE": "1000000",
            "BILLING_OPEN_PURCHASES_MAX": "100000",
            **self.extra,
        }


class WorkerProcess:
    """One `billing-stream worker`."""

    def __init__(self, setting: Setting, command: list[str] | None = None) -> None:
        self._setting = setting
        self._port = free_port()
        self._command = command or [sys.executable, "-m", "billing_stream", "worker"]
        self.log = setting.folder / f"worker-{self._port}.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> "WorkerProcess":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, *, wait: bool = True, seconds: float = READY_SECONDS_MAX) -> None:
        """Start it, and wait until it is ready. The last one must have been stopped.

        Each start is on the same port: a static member that comes back under another URL
        within the session timeout is not taken.
        """
        if self._process is not None and self._process.returncode is None:
            raise RuntimeError("the worker runs already")
        environment = self._setting.environment()
        env = {
            **environment,
            "BILLING_API_EXTERNAL_PORT": str(self._port),
            # Workers side by side must not share it.
            "BILLING_DATA_DIR": f"{environment['BILLING_DATA_DIR']}-{self._port}",
        }
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=env, stdout=output, stderr=output
            )
        if wait:
            await self.ready(seconds)

    async def ready(self, seconds: float = READY_SECONDS_MAX) -> None:
        """Wait until it is ready; RuntimeError with its log when it is not in time."""
        end = time.monotonic() + seconds
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < end and self._process and self._process.returncode is None:
                try:
                    async with session.get(f"{self.url}/ready") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)
        raise RuntimeError(f"the worker did not get ready:\n{self.log.read_text()[-3000:]}")

    def require_alive(self) -> None:
        """RuntimeError, with the end of its log, when it has ended by itself."""
        process = self._process
        if process is not None and process.returncode is not None:
            raise RuntimeError(
                f"the worker ended with {process.returncode}:\n{self.log.read_text()[-3000:]}"
            )

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), 15)
        except asyncio.TimeoutError:
            self._process.kill()
            await self._process.wait()

    def cpu_seconds(self) -> float:
        """Processor time that it has taken, all its threads, user and system."""
        used = self._running().cpu_times()
        return float(used.user + used.system)

    def memory_bytes(self) -> int:
        """Its resident memory."""
        return int(self._running().memory_info().rss)

    def _running(self) -> psutil.Process:
        if self._process is None:
            raise RuntimeError("the worker was not started")
        return psutil.Process(self._process.pid)

    def owned(self) -> int:
        """How many partitions it has since the last rebalance, from its own log."""
        found = OWNED.findall(self.log.read_text())
        return int(found[-1]) if found else 0

    def restored(self) -> tuple[int, float]:
        """Changelog records and seconds of the last restore, from the worker's own log."""
        found = RESTORED.findall(self.log.read_text())
        return (int(found[-1][0]), float(found[-1][1])) if found else (0, 0.0)


async def until(done: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until `done`; RuntimeError when it takes too long."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"took more than {seconds:.0f} s: {what}")
        await asyncio.sleep(0.05)
