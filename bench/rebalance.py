"""How long a partition is not served when it moves: a second worker joins, then leaves.

A probe is a webhook, one for each partition twenty times a second; how long its event took
is how long its partition was not served.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaProducer

from bench.events import Purchases
from bench.fill import Filled
from bench.load import number_of
from bench.setting import Setting, WorkerProcess, say, until
from bench.verified import sums
from billing_stream.records import topics as names

START_SECONDS_MAX = 300.0
STEP_SECONDS = 0.05
CALM_SECONDS = 3.0


class _Probe:
    """One webhook: its partition, when it was due, when its event came."""

    __slots__ = ("announced_at", "due", "partition")

    def __init__(self, partition: int, due: float) -> None:
        self.partition = partition
        self.due = due
        self.announced_at: float | None = None


class _Probes:
    """Sends probes until it is stopped."""

    def __init__(self, setting: Setting, filled: Filled, events: Purchases) -> None:
        self._setting = setting
        self._filled = filled
        self._probes: dict[int, _Probe] = {}
        events.on_event = self._on_event
        self._stopping = False
        self._task = asyncio.create_task(self._send())

    @property
    def count(self) -> int:
        """How many were sent."""
        return len(self._probes)

    async def stop(self) -> None:
        """Send no more; returns when the broker has all."""
        self._stopping = True
        await self._task

    def longest(self, since: float, until: float) -> tuple[float, float]:
        """Of the probes due in between: the longest wait, and when the last late one was told.

        RuntimeError when one is not answered.
        """
        chosen = [p for p in self._probes.values() if since <= p.due < until]
        slowest: dict[int, _Probe] = {}
        for probe in chosen:
            if probe.announced_at is None:
                raise RuntimeError(f"a webhook of partition {probe.partition} had no event")
            other = slowest.get(probe.partition)
            if (
                other is None
                or probe.announced_at - probe.due > (other.announced_at or 0.0) - other.due
            ):
                slowest[probe.partition] = probe
        waits = [(p.announced_at or 0.0) - p.due for p in slowest.values()]
        return max(waits), max((p.announced_at or 0.0) - since for p in slowest.values())

    def _on_event(self, value: bytes, now: float) -> None:
        self._probes[number_of(value)].announced_at = now

    async def _send(self) -> None:
        topic = self._setting.topics.name(names.PURCHASE_UPDATED)
        of_partition = [self._numbers(p) for p in range(self._setting.partitions)]
        producer = AIOKafkaProducer(bootstrap_servers=self._setting.kafka, acks=1)
        await producer.start()
        try:
            start = time.monotonic()
            step = 0
            while not self._stopping:
                due = start + step * STEP_SECONDS
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                for partition, numbers in enumerate(of_partition):
                    number = next(numbers)
                    self._probes[number] = _Probe(partition, due)
                    key, value = self._filled.webhook(number)
                    await producer.send(topic, value, key=key, partition=partition)
                step += 1
        finally:
            await producer.stop()

    def _numbers(self, partition: int) -> Iterator[int]:
        for number in range(self._filled.purchases):
            if self._filled.partition(number) == partition:
                yield number


async def measure(setting: Setting, merchants: int) -> dict[str, Any]:
    """Seconds without service, of the partition that has to wait longest."""
    await setting.create_topics()
    filled = Filled(setting, merchants, merchants)
    say(f"filling {merchants:,} merchants with a purchase each")
    await filled.write()
    async with WorkerProcess(setting) as first, WorkerProcess(setting) as second:
        await first.start(seconds=START_SECONDS_MAX)
        async with Purchases(setting) as events:
            probes = _Probes(setting, filled, events)
            await asyncio.sleep(CALM_SECONDS)
            joining = time.monotonic()
            say("a second worker joins")
            await second.start(seconds=START_SECONDS_MAX)
            half = setting.partitions // 2
            await until(lambda: first.owned() == second.owned() == half, "joining", 60)
            await asyncio.sleep(CALM_SECONDS)
            moved, _ = second.restored()
            leaving = time.monotonic()
            say("it leaves")
            await second.stop()
            await until(lambda: first.owned() == setting.partitions, "leaving", 60)
            await asyncio.sleep(CALM_SECONDS)
            await probes.stop()
            await events.wait_for(probes.count, 30, first)
            join, _ = probes.longest(joining, leaving)
            pause, again = probes.longest(leaving, time.monotonic())
    return {
        "merchants_moved": merchants // setting.partitions * half,
        "changelog_records_moved": moved,
        "join_s": join,
        "leave_s": again,
        "leave_pause_s": pause,
        "sums_right": await sums(setting, probes.count),
    }
