"""Records at a fixed schedule of arrivals, and how long each took to its committed event.

Latency counts from the time at which a record was due to be sent, so a generator that falls
behind makes the figures worse and not better (no coordinated omission). It shares the
processors with what is measured, so it does little: keys and partitions are made before,
records that are due within one step go out as one batch per partition.
"""

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka import AIOKafkaProducer

from bench.events import Purchases
from bench.load import Load, Record, number_of
from bench.setting import Setting, WorkerProcess, say
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names

STEP_SECONDS = 0.005
# A broker just started compiles its code for so long: p50 is twice as high meanwhile.
WARM_UP_SECONDS = 12
WAIT_SECONDS_MAX = 60.0

Figures = dict[str, float]


class Arrivals:
    """`per_second` records a second; those of the first `warm_up` seconds do not count.

    `first` is the number of the first purchase.
    """

    def __init__(self, per_second: int, warm_up: int = WARM_UP_SECONDS, first: int = 0) -> None:
        self._rate = per_second
        self._first = first
        self._skipped = per_second * warm_up
        self._start = 0.0
        self._late: list[float] = []
        self._took: list[float] = []

    def __call__(self, value: bytes, now: float) -> None:
        """Take an event that was read at `now`."""
        number = number_of(value) - self._first
        if number >= self._skipped:
            self._took.append((now - self._start - number / self._rate) * 1000)

    async def send(self, setting: Setting, records: list[Record]) -> None:
        """Send each record when it is due."""
        topic = setting.topics.name(names.PURCHASE_UPDATED)
        partition = {m: partition_of(m, setting.partitions) for m in {m for m, _ in records}}
        ready = [(partition[merchant], merchant.encode(), value) for merchant, value in records]
        producer = AIOKafkaProducer(bootstrap_servers=setting.kafka, acks=1, max_batch_size=1 << 19)
        await producer.start()
        try:
            with _no_collector():
                self._start = time.monotonic() + 0.1
                sent = 0
                while sent < len(ready):
                    now = time.monotonic() - self._start
                    due = min(len(ready), int(now * self._rate) + 1) if now >= 0 else 0
                    if due > sent:
                        if sent >= self._skipped:
                            self._late.append((now - sent / self._rate) * 1000)
                        await _send(producer, topic, ready[sent:due])
                        sent = due
                    await asyncio.sleep(STEP_SECONDS)
                await producer.flush()
        finally:
            await producer.stop()

    def figures(self) -> Figures:
        """Percentiles in milliseconds, and how late the generator was itself."""
        took, late = sorted(self._took), sorted(self._late)
        return {
            "per_second": float(self._rate),
            "p50_ms": percentile(took, 0.50),
            "p99_ms": percentile(took, 0.99),
            "max_ms": took[-1],
            "generator_late_p99_ms": percentile(late, 0.99),
            "generator_late_max_ms": late[-1],
        }


async def latencies(
    setting: Setting, load: Load, worker: WorkerProcess, per_second: int, total: int
) -> Figures:
    """Send the first `total` webhooks of a prepared load, each when due, until all are told."""
    arrivals = Arrivals(per_second)
    async with Purchases(setting) as events:
        events.on_event = arrivals
        say(f"sending {per_second}/s for {total / per_second:.0f} s")
        await arrivals.send(setting, load.webhooks(range(total)))
        await events.wait_for(total, WAIT_SECONDS_MAX, worker)
    return arrivals.figures()


def percentile(ordered: list[float], share: float) -> float:
    """The value below which this share of them lies; 0 when there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


@contextmanager
def _no_collector() -> Iterator[None]:
    """No pauses of the generator's own: it holds all records, and walking them takes long."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _send(
    producer: AIOKafkaProducer, topic: str, records: list[tuple[int, bytes, bytes]]
) -> None:
    batches: dict[int, Any] = {}
    for partition, key, value in records:
        batch = batches.get(partition)
        if batch is None:
            batch = batches[partition] = producer.create_batch()
        if batch.append(key=key, value=value, timestamp=None) is None:
            await producer.send_batch(batch, topic, partition=partition)
            batch = batches[partition] = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    for partition, batch in batches.items():
        await producer.send_batch(batch, topic, partition=partition)
