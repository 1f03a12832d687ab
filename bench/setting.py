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

import psutil
from aiokafka.admin import AIOKafkaAdminClient

from billing_stream.dev.server_process import free_port
from billing_stream.dev.worker_process import COMMAND, STOP_SECONDS_MAX
from billing_stream.dev.worker_process import WorkerProcess as Process
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


class WorkerProcess(Process):
    """One `billing-stream worker`, or what a peer has instead of it."""

    def __init__(self, setting: Setting, command: list[str] | None = None) -> None:
        command = command or [*COMMAND, "worker"]
        super().__init__(setting.environment(), setting.folder, free_port(), command)

    async def __aenter__(self) -> "WorkerProcess":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, *, wait: bool = True, seconds: float = READY_SECONDS_MAX) -> None:
        """Start it, and wait until it is ready. The last one must have been stopped."""
        await super().start()
        if wait:
            await self.ready(seconds)

    async def stop(self, seconds: float = STOP_SECONDS_MAX) -> int:
        """SIGTERM, then SIGKILL; the exit code, 0 when there was no process."""
        if not self.running:
            return 0
        try:
            return await super().stop(seconds)
        except TimeoutError:
            await self.kill()
            return -signal.SIGKILL

    def cpu_seconds(self) -> float:
        """Processor time that it has taken, all its threads, user and system."""
        used = psutil.Process(self.pid).cpu_times()
        return float(used.user + used.system)

    def memory_bytes(self) -> int:
        """Its resident memory."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def owned(self) -> int:
        """How many partitions it has since the last rebalance, from its own log."""
        found = OWNED.findall(self.text())
        return int(found[-1]) if found else 0

    def restored(self) -> tuple[int, float]:
        """Changelog records and seconds of the last restore, from the worker's own log."""
        found = RESTORED.findall(self.text())
        return (int(found[-1][0]), float(found[-1][1])) if found else (0, 0.0)


async def until(done: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until `done`; RuntimeError when it takes too long."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"took more than {seconds:.0f} s: {what}")
        await asyncio.sleep(0.05)
