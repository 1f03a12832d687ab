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
# A broker just started compiles its code for so long: p50 is twice as high meanwhile.
WARM_UP_SECONDS = 12


class _Event(msgspec.Struct):
    correlation_id: str


async def measure(
    setting: Setting, per_second: int, seconds: int, command: list[str] | None = None
) -> dict[str, float]:
    """p50 and p99 in milliseconds, warm-up left out."""
    total = per_second * (seconds + WARM_UP_SECONDS)
    await setting.create_topics()
    async with (
        Load(setting, min(total, 5_000), total) as load,
        WorkerProcess(setting, command) as worker,
    ):
        say(f"preparing {total} purchases for {per_second}/s")
        await load.prepare()
        await worker.start()
        await caught_up(setting, worker, total)
        records = load.webhooks(range(total))
        due: list[float] = []
        sent: list[float] = []
        from_due: list[float] = []
        from_sent: list[float] = []
        decode = msgspec.json.Decoder(_Event).decode

        def on_event(value: bytes, now: float) -> None:
            number = int(decode(value).correlation_id.rpartition("-")[2])
            if number >= per_second * WARM_UP_SECONDS:
                from_due.append((now - due[number]) * 1000)
                from_sent.append((now - sent[number]) * 1000)

        async with Purchases(setting) as events:
            events.on_event = on_event
            say(f"sending {per_second}/s for {seconds + WARM_UP_SECONDS} s")
            await _send_on_schedule(setting, records, per_second, due, sent)
            await events.wait_for(total, 60, worker)
    from_due.sort()
    from_sent.sort()
    return {
        "p50_ms": _percentile(from_due, 0.50),
        "p99_ms": _percentile(from_due, 0.99),
        "max_ms": from_due[-1],
        "p50_from_send_ms": _percentile(from_sent, 0.50),
        "p99_from_send_ms": _percentile(from_sent, 0.99),
    }


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def _send_on_schedule(
    setting: Setting,
    records: list[tuple[str, bytes]],
    per_second: int,
    due: list[float],
    sent: list[float],
) -> None:
    """Send each record when it is due; `due` and `sent` get the times, by number."""
    producer = AIOKafkaProducer(bootstrap_servers=setting.kafka, acks=1)
    await producer.start()
    topic = setting.topics.name(names.PURCHASE_UPDATED)
    partition = {m: partition_of(m, setting.partitions) for m in {m for m, _ in records}}
    try:
        start = time.monotonic() + 0.1
        due += [start + number / per_second for number in range(len(records))]
        while len(sent) < len(records):
            while len(sent) < len(records) and due[len(sent)] <= time.monotonic():
                merchant, value = records[len(sent)]
                sent.append(time.monotonic())
                await producer.send(
                    topic, value, key=merchant.encode(), partition=partition[merchant]
                )
            await asyncio.sleep(STEP_SECONDS)
        await producer.flush()
    finally:
        await producer.stop()
