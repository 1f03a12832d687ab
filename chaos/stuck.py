"""Watches the last stable offset of every partition of ours: where it stands still, readers of
committed records stand still too, whatever the workers do.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from chaos import wire
from chaos.stage import Stage

LOOK_SECONDS = 5.0
# The timeout of a transaction is 10 s, and the broker looks every 10 s.
TELL_SECONDS = 25.0
FINDING_SECONDS = 60.0


@dataclass
class Stuck:
    """A partition whose last stable offset stands still though there is more behind it."""

    topic: str
    partition: int
    offset: int
    since: float
    # When and by what the open transaction began, and what its coordinator says of it.
    producer: str = ""
    told: bool = False
    seconds: float = 0.0
    history: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of it."""
        said = "; ".join(self.history)
        return (
            f"{self.topic}[{self.partition}] last stable offset {self.offset} stood still for "
            f"{self.seconds:.0f} s: {self.producer or 'not asked'} {said}"
        )


class StuckWatch:
    """Looks every few seconds while the broker is up."""

    def __init__(self, stage: Stage, is_up: Callable[[], bool]) -> None:
        self._stage = stage
        self._is_up = is_up
        self._task: asyncio.Task[None] | None = None
        self._stuck: dict[TopicPartition, Stuck] = {}
        self.found: list[Stuck] = []

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="stuck-watch")

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for stuck in self._stuck.values():
            self._ended(stuck, "stands still at the end of the run")

    @property
    def still(self) -> list[Stuck]:
        """Those that have stood still for long, and do."""
        return [stuck for stuck in self._stuck.values() if stuck.told]

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await self._watch()
            await asyncio.sleep(1)

    async def _watch(self) -> None:
        consumers: list[Any] = [
            AIOKafkaConsumer(
                bootstrap_servers=self._stage.kafka,
                isolation_level=level,
                request_timeout_ms=10_000,
            )
            for level in ("read_committed", "read_uncommitted")
        ]
        try:
            for consumer in consumers:
                await consumer.start()
            names = [topic.name for topic in self._stage.topics.all()]
            tps = [TopicPartition(t, p) for t in names for p in range(self._stage.partitions)]
            while True:
                if self._is_up():
                    stable, ends = [await consumer.end_offsets(tps) for consumer in consumers]
                    await self._compare(stable, ends)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await asyncio.gather(*(c.stop() for c in consumers), return_exceptions=True)

    async def _compare(
        self, stable: dict[TopicPartition, int], ends: dict[TopicPartition, int]
    ) -> None:
        now = time.monotonic()
        for tp, offset in stable.items():
            stuck = self._stuck.get(tp)
            if stuck is not None and stuck.offset != offset:
                del self._stuck[tp]
                self._ended(stuck, f"moved on to {offset}")
            if offset >= ends[tp]:
                continue
            stuck = self._stuck.setdefault(tp, Stuck(tp.topic, tp.partition, offset, now))
            stuck.seconds = now - stuck.since
            if stuck.seconds > TELL_SECONDS and not stuck.told:
                stuck.told = True
                stuck.producer = await self._describe(stuck)
                self._stage.say(f"LAST STABLE OFFSET: {stuck.text}, end {ends[tp]}")

    def _ended(self, stuck: Stuck, how: str) -> None:
        if not stuck.told:
            return
        stuck.seconds = time.monotonic() - stuck.since
        stuck.history.append(how)
        self.found.append(stuck)
        self._stage.say(f"LAST STABLE OFFSET: {stuck.text}")

    async def _describe(self, stuck: Stuck) -> str:
        try:
            return await describe(self._stage.kafka, stuck.topic, stuck.partition)
        except (OSError, TimeoutError) as error:
            return f"(not told: {error!r})"


async def describe(kafka: str, topic: str, partition: int) -> str:
    """The open transactions in a partition, and what their coordinators say of them."""
    servers = kafka.split(",")
    known: dict[int, wire.Transaction] = {}
    producers: list[wire.Producer] = []
    for server in servers:
        # One that is away knows nothing now, and only the leader knows the producers.
        with contextlib.suppress(OSError, TimeoutError, EOFError):
            known |= {t.producer_id: t for t in await wire.list_transactions(server)}
            producers = await wire.describe_producers(server, topic, partition) or producers
    told = []
    for producer in producers:
        if producer.start < 0:
            continue
        coordinator = known.get(producer.id)
        says = (
            f"{coordinator.transactional_id} is {coordinator.state}"
            if coordinator
            else "no transactional id has it"
        )
        told.append(
            f"producer {producer.id} epoch {producer.epoch} has a transaction open since offset "
            f"{producer.start}, last sequence {producer.last_sequence}, last written "
            f"{time.time() - producer.last_ms / 1000:.0f} s ago; its coordinator: {says}"
        )
    return " | ".join(told) or "no producer has a transaction open"
