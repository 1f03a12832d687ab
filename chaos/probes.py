"""How long it takes until a record is processed, seen from outside: in the committed events."""

import asyncio
import contextlib
import random
import time
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef
from chaos.sender import Sender, Unsure
from chaos.stage import Stage


class _Data(Struct):
    merchant_id: str


class _Event(Struct):
    data: _Data


_decode = msgspec.json.Decoder(_Event).decode


@dataclass(frozen=True)
class Seen:
    """An event: when it was read, and when its writer says that it was written (epoch ms)."""

    at: float
    written_ms: int


class Follower:
    """Reads all events as they are committed, whatever happens to the broker."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._awaited: dict[str, asyncio.Future[Seen]] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._task: asyncio.Task[None] | None = None
        self.count = 0

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._run(), name="follower")

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def trial_of(self, merchant: str) -> "asyncio.Future[Seen]":
        """Done when the trial of this merchant is announced."""
        return self._awaited.setdefault(merchant, asyncio.get_running_loop().create_future())

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(KafkaError, OSError):
                await self._follow()
            await asyncio.sleep(0.2)

    async def _follow(self) -> None:
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=self._stage.kafka,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
            retry_backoff_ms=50,
            request_timeout_ms=10_000,
        )
        SilentBrokers({"bootstrap_servers": self._stage.kafka}).avoided_by(consumer._client)
        await consumer.start()
        try:
            kinds = [self._stage.topics.name(names.event_type(kind)) for kind in names.EVENT_TYPES]
            consumer.assign(
                [TopicPartition(t, p) for t in kinds for p in range(self._stage.partitions)]
            )
            for tp, position in self._positions.items():
                consumer.seek(tp, position)
            while True:
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    self._positions[tp] = records[-1].offset + 1
                    self._take(tp.topic, records)
        finally:
            await consumer.stop()

    def _take(self, topic: str, records: list[Any]) -> None:
        self.count += len(records)
        if self._stage.topics.base(topic) != names.event_type("trial.started"):
            return
        now = time.monotonic()
        for record in records:
            waiting = self._awaited.pop(_decode(record.value).data.merchant_id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(Seen(now, record.timestamp))


class Probes:
    """Trials of fresh merchants, in the partitions that are asked about."""

    def __init__(self, stage: Stage, sender: Sender, follower: Follower, seed: int) -> None:
        self._stage = stage
        self._sender = sender
        self._follower = follower
        self._random = random.Random(seed)

    async def batch(self, partitions: frozenset[int]) -> float:
        """Send one for each partition; seconds until the last was processed."""
        began = time.monotonic()
        _, seen = self.send(partitions, 1)
        return max([one.at for one in await asyncio.gather(*seen)], default=began) - began

    def send(
        self, partitions: frozenset[int], each: int
    ) -> "tuple[list[asyncio.Task[RecordRef]], list[asyncio.Future[Seen]]]":
        """Begin to send so many for each partition; the acknowledgements and the events."""
        merchants = [self._merchant_in(p) for _ in range(each) for p in sorted(partitions)]
        seen = [self._follower.trial_of(merchant) for merchant in merchants]
        tasks = [self._sender.begin_trial(merchant) for merchant in merchants]
        for task in tasks:
            task.add_done_callback(_note)
        return tasks, seen

    def _merchant_in(self, partition: int) -> str:
        while True:
            merchant = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
            if self._stage.partition_of(merchant) == partition:
                return merchant


def _note(task: "asyncio.Task[RecordRef]") -> None:
    """That it is not sure is noted where it happened."""
    if not task.cancelled():
        error = task.exception()
        if error is not None and not isinstance(error, Unsure):
            raise error
