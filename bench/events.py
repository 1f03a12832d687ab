"""Counts what is published, as a consumer that reads only what is committed."""

import asyncio
import time
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.setting import Setting, WorkerProcess
from billing_stream.records import topics as names

OnEvent = Callable[[bytes, float], None]


class Purchases:
    """Follows `evt.billing.credits.purchased.v1` (or another topic) from its end."""

    def __init__(self, setting: Setting, topic: str | None = None) -> None:
        self._setting = setting
        self._topic = topic or setting.topics.name(names.event_type("credits.purchased"))
        self.count = 0
        self.first = 0.0
        self.last = 0.0
        self.ids: set[bytes] = set()
        self.on_event: OnEvent | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Purchases":
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._setting.kafka,
            isolation_level="read_committed",
            fetch_max_wait_ms=10,
            max_partition_fetch_bytes=4 << 20,
        )
        await self._consumer.start()
        tps = [TopicPartition(self._topic, p) for p in range(self._setting.partitions)]
        self._consumer.assign(tps)
        await self._consumer.seek_to_end(*tps)
        for tp in tps:
            await self._consumer.position(tp)
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    async def _follow(self) -> None:
        while True:
            read = await self._consumer.getmany(timeout_ms=100)
            now = time.monotonic()
            for records in read.values():
                self.first = self.first or now
                self.last = now
                self.count += len(records)
                for record in records:
                    # The id is the first field, of a fixed length: no parse needed.
                    self.ids.add(record.value[13:49])
                    if self.on_event:
                        self.on_event(record.value, now)

    async def wait_for(self, count: int, seconds: float, worker: WorkerProcess) -> None:
        """Wait until so many were published; RuntimeError when it takes too long."""
        end = time.monotonic() + seconds
        while self.count < count:
            worker.require_alive()
            if time.monotonic() > end:
                raise RuntimeError(f"{self.count} of {count} events after {seconds:.0f} s")
            await asyncio.sleep(0.02)
