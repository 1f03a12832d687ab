"""Webhook records per second through one worker process, exactly once; and its recovery."""

import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.events import Purchases
from bench.load import Load
from bench.setting import Setting, WorkerProcess, say
from billing_stream.engine.log import RESERVED_PREFIX
from billing_stream.records import topics as names

PREPARE_SECONDS_MAX = 300.0
RUN_SECONDS_MAX = 300.0


async def measure(
    setting: Setting, merchants: int, records: int, command: list[str] | None = None
) -> dict[str, float]:
    """Records per second, and changelog records per second of a restart after it."""
    async with WorkerProcess(setting, command) as worker:
        figures = await run(setting, worker, merchants, records)
        say("restarting the worker to measure its recovery")
        await worker.start()
        restored, seconds = worker.restored()
    return {**figures, "restored": restored, "restored_per_s": restored / seconds}


async def run(
    setting: Setting, worker: WorkerProcess, merchants: int, records: int
) -> dict[str, float]:
    """Complete all purchases; webhook records per second, first committed event to last.

    Beside them, microseconds of the worker's CPU per record, the first tenth left out.

    Raises RuntimeError unless every purchase gave one event, and every total is right.
    """
    await setting.create_topics()
    async with Load(setting, merchants, records) as load:
        say(f"preparing {merchants} merchants with {records} pending purchases")
        await load.prepare()
        await worker.start()
        await caught_up(setting, worker, records)
        await worker.stop()
        say(f"queueing {records} webhooks, then starting the worker")
        await load.send(names.PURCHASE_UPDATED, load.webhooks(range(records)))
        async with Purchases(setting) as events:
            await worker.start(wait=False)
            cost = await cpu_us_per_record(worker, events, records)
            rate = (events.count - 1) / (events.last - events.first)
            if len(events.ids) != records or events.count != records:
                raise RuntimeError(f"{events.count} events, {len(events.ids)} ids, not {records}")
        await worker.stop()
    total = await _total_credits(setting)
    if total != records * 100:
        raise RuntimeError(f"the changelog has {total} credits, not {records * 100}")
    return {"records_per_s": rate, "cpu_us_per_record": cost}


async def cpu_us_per_record(worker: WorkerProcess, events: Purchases, records: int) -> float:
    """Wait for so many events; microseconds of CPU for each, the first tenth left out."""
    await events.wait_for(records // 10, RUN_SECONDS_MAX, worker)
    began, count = worker.cpu_seconds(), events.count
    await events.wait_for(records, RUN_SECONDS_MAX, worker)
    return (worker.cpu_seconds() - began) / max(1, records - count) * 1e6


async def caught_up(setting: Setting, worker: WorkerProcess, purchases: int) -> None:
    """Wait until every purchase has its charge, which the changelog tells."""
    began = time.monotonic()
    done: set[bytes] = set()
    topic = setting.topics.changelog(names.CREDIT_PURCHASES)
    async for records in _batches(setting, topic, follow=True):
        done.update(r.key for r in records if b'"platform_charge_id"' in r.value)
        if len(done) == purchases:
            return
        worker.require_alive()
        if time.monotonic() - began > PREPARE_SECONDS_MAX:
            raise RuntimeError(f"only {len(done)} of {purchases} purchases prepared")


async def _total_credits(setting: Setting) -> int:
    totals: dict[bytes, int] = {}
    topic = setting.topics.changelog(names.BILLING_RECORDS)
    async for records in _batches(setting, topic, follow=False):
        for record in records:
            if not record.key.startswith(RESERVED_PREFIX):
                row: dict[str, Any] = msgspec.json.decode(record.value)
                totals[record.key] = row.get("total_credits_purchased", 0)
    return sum(totals.values())


async def _batches(setting: Setting, topic: str, *, follow: bool) -> AsyncIterator[list[Any]]:
    """What is read at once of `topic`; empty when there is nothing new for now."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=setting.kafka, isolation_level="read_committed", fetch_max_wait_ms=50
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, p) for p in range(setting.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        while follow or [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
            read = await consumer.getmany(timeout_ms=200)
            yield [record for records in read.values() for record in records]
    finally:
        await consumer.stop()
