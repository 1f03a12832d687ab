"""Where a late request is tried: a cluster, and on it topics, one worker behind proxies, a load."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from billing_stream.dev.brokers import Brokers
from chaos import audit
from chaos.late_load import Books, Load
from chaos.late_proxy import Late, LateProxy, proxies
from chaos.late_report import KINDS, MOMENTS, Cell, Try
from chaos.ports import new_port
from chaos.stage import Stage
from chaos.workers import Worker

# Payments in a small transaction, and in one whose rows need more than one produce request.
SMALL, LARGE = 5, 500
# A worker writes under several ids in turn: this many transactions, to meet the right one.
LARGE_COUNT = 4
SMALL_PER_MOMENT = 3
READY_SECONDS_MAX = 120.0
WAVE_SECONDS_MAX = 30.0
SETTLE_SECONDS_MAX = 120.0
PROBLEM_CHARACTERS = 200
# The group says once a second how far it has read.
LAG_SECONDS = 1.0


@dataclass
class Cluster:
    """Brokers of one version of transactions. `ports` are theirs on this machine."""

    folder: Path
    version: int
    ports: list[int]
    stages: int = 0

    @property
    def servers(self) -> str:
        """Without a proxy."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)


@contextmanager
def cluster(folder: Path, brokers: int, version: int) -> Iterator[Cluster]:
    """Start brokers with this finalized `transaction.version`."""
    here = folder / f"v{version}"
    here.mkdir(parents=True, exist_ok=True)
    ports = [(new_port(), new_port()) for _ in range(brokers)]
    feature = ["--feature", f"transaction.version={version}"]
    kafka = Brokers(here / "kafka", here, ports, format_options=feature)
    try:
        kafka.start()
        yield Cluster(here, version, [node.port for node in kafka.nodes])
    finally:
        kafka.stop()


class Scene:
    """Topics of their own, a worker that reaches the brokers by proxies, and the load."""

    def __init__(self, on: Cluster) -> None:
        on.stages += 1
        self.folder = on.folder / f"{on.stages}"
        self.folder.mkdir()
        prefix = f"late{on.stages}."
        self.stage = Stage(
            on.servers,
            self.folder,
            prefix,
            partitions=1,
            replication=len(on.ports),
            problem_characters=PROBLEM_CHARACTERS,
        )
        self.late = Late()
        ports = [new_port() for _ in on.ports]
        self.proxies: list[LateProxy] = proxies(on.ports, ports, self.late)
        proxied = ",".join(f"127.0.0.1:{port}" for port in ports)
        self.worker = Worker(0, self.stage.environment(proxied), self.folder)
        self.load = Load(self.stage)
        self.books = Books(self.stage)
        self._session = aiohttp.ClientSession()

    async def start(self) -> None:
        """Start all, and wait until the worker is ready."""
        for proxy in self.proxies:
            await proxy.start()
        await self.stage.create_topics()
        await self.load.start()
        await self.books.start()
        self.worker.want(True)
        await self.ready()

    async def close(self) -> None:
        """Stop all, and delete the topics."""
        await self.worker.close()
        await self.load.close()
        await self.books.close()
        await self._session.close()
        await asyncio.gather(*(proxy.close() for proxy in self.proxies))
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stage.kafka)
        await admin.start()
        try:
            await admin.delete_topics([topic.name for topic in self.stage.topics.all()])
        finally:
            await admin.close()

    async def ready(self) -> bool:
        """Wait until the worker owns its partition; whether it does, in time."""
        end = time.monotonic() + READY_SECONDS_MAX
        while time.monotonic() < end:
            if (await self.worker.readiness(self._session)).ready:
                return True
            await asyncio.sleep(0.1)
        return False

    async def restart(self) -> None:
        """Stop the worker, and start it again."""
        await self.worker.leave()
        self.worker.want(True)
        await self.ready()

    async def settled(self) -> bool:
        """Wait until all is read and committed; whether it is, in time."""
        end = time.monotonic() + SETTLE_SECONDS_MAX
        while time.monotonic() < end:
            if await self.ready():
                await asyncio.sleep(LAG_SECONDS)
                with suppress(KafkaError):
                    if not await audit.lag(self.stage) and await self.ready():
                        return True
        return False

    async def attempt(self, cell: Cell) -> Try:
        """One try."""
        after = MOMENTS[cell.moment]
        opened = await self.load.open(LARGE * LARGE_COUNT + SMALL * SMALL_PER_MOMENT * after)
        if not await self.books.until(lambda: opened <= self.books.attached, SETTLE_SECONDS_MAX):
            return Try(cell, None, "the purchases were not opened")
        paid_before, exits_before = set(self.load.paid), len(self.worker.exits)
        self.late.arm(KINDS[cell.kind], after)
        if cell.kind == "init-producer-id":
            await self.restart()
            exits_before = len(self.worker.exits)
        await self._pay()
        held = self.late.held
        paid = self.load.paid - paid_before
        recovered = await self.books.until(lambda: self.books.has(paid), LAG_SECONDS)
        if not recovered:
            recovered = await self.settled()
            await self.books.read_all()
        found = Try(cell, held, recovered=recovered, paid=len(paid))
        found.completed = len(paid & self.books.completed)
        found.announced = len(paid & self.books.announced.keys())
        found.doubled = sum(self.books.announced[purchase] > 1 for purchase in paid)
        found.exits = self.worker.exits[exits_before:]
        if held is None:
            found.invalid = "nothing was held, or it could not be delivered"
        elif not held.delivered:
            found.invalid = "what was held was not delivered"
        return found

    async def _pay(self) -> None:
        """Pay in transactions, one after the other, a large one where the request is late."""
        while self.load.unpaid:
            held = self.late.held
            over = held is not None and held.delivered
            ended = self.late.ended
            await self.load.pay(LARGE if over or self.late.is_next else SMALL)
            await self.late.wait_ended(ended + 1, WAVE_SECONDS_MAX)

    async def verify(self) -> None:
        """Have the verifier read all of it; what it finds is a problem of the stage."""
        await self.worker.close()
        await audit.verify(self.stage)
