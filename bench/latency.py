"""From a webhook record to its committed event, at a fixed schedule of arrivals.

Latency counts from the time at which a record was due to be sent, so a generator that
falls behind makes the figures worse and not better (no coordinated omission).
"""

import asyncio
import time

import msgspec
from aiokafka import AIOKafkaProducer

from bench.events import Purchases
from bench.load import Load
from bench.setting import Setting, WorkerProcess, say
from bench.throughput import caught_up
from billing_stream import topics as names
from billing_stream.engine.partitioner import partition_of

STEP_SECONDS = 0.005
WARM_UP_SECONDS = 4


class _Event(msgspec.Struct):
    correlation_id: str


async def measure(setting: Setting, per_second: int, seconds: int) -> dict[str, float]:
    """p50 and p99 in milliseconds, warm-up left out."""
    total = per_second * (seconds + WARM_UP_SECONDS)
    await setting.create_topics()
    async with (
        Load(setting, min(total, 5_000), total) as load,
        WorkerProcess(setting) as worker,
    ):
        say(f"preparing {total} purchases for {per_second}/s")
        await load.prepare()
        await worker.start()
        await caught_up(setting, total)
        records = load.webhooks(range(total))
        due: list[float] = []
        latencies: list[float] = []
        decode = msgspec.json.Decoder(_Event).decode

        def on_event(value: bytes, now: float) -> None:
            number = int(decode(value).correlation_id.rpartition("-")[2])
            if number >= per_second * WARM_UP_SECONDS:
                latencies.append((now - due[number]) * 1000)

        async with Purchases(setting) as events:
            events.on_event = on_event
            say(f"sending {per_second}/s for {seconds + WARM_UP_SECONDS} s")
            await _send_on_schedule(setting, records, per_second, due)
            await events.wait_for(total, 60)
    latencies.sort()
    return {
        "p50_ms": latencies[len(latencies) // 2],
        "p99_ms": latencies[int(len(latencies) * 0.99)],
        "max_ms": latencies[-1],
    }


async def _send_on_schedule(
    setting: Setting, records: list[tuple[str, bytes]], per_second: int, due: list[float]
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=setting.kafka, acks=1)
    await producer.start()
    topic = setting.topics.name(names.PURCHASE_UPDATED)
    partition = {m: partition_of(m, setting.partitions) for m in {m for m, _ in records}}
    try:
        start = time.monotonic() + 0.1
        due += [start + number / per_second for number in range(len(records))]
        sent = 0
        while sent < len(records):
            now = time.monotonic()
            while sent < len(records) and due[sent] <= now:
                merchant, value = records[sent]
                await producer.send(
                    topic, value, key=merchant.encode(), partition=partition[merchant]
                )
                sent += 1
            await asyncio.sleep(STEP_SECONDS)
        await producer.flush()
    finally:
        await producer.stop()
