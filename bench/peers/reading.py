"""What a run left behind, as a reader of what is committed sees it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from bench.setting import Setting, WorkerProcess

DRAIN_SECONDS_MAX = 300.0


class _EventData(msgspec.Struct):
    credits: int
    purchase_id: str


class _Event(msgspec.Struct):
    data: _EventData


async def drained(setting: Setting, group: str, topic: str, worker: WorkerProcess) -> None:
    """Wait until the group has committed all of the topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=setting.kafka)
    consumer = AIOKafkaConsumer(bootstrap_servers=setting.kafka)
    await admin.start()
    await consumer.start()
    ended = time.monotonic() + DRAIN_SECONDS_MAX
    try:
        tps = [TopicPartition(topic, p) for p in range(setting.partitions)]
        ends = await consumer.end_offsets(tps)
        while time.monotonic() < ended:
            try:
                found = await admin.list_consumer_group_offsets(group)
            except KafkaError:
                # There is no such group before its first member has joined it.
                found = {}
            if all(ends[tp] == 0 or (tp in found and found[tp].offset >= ends[tp]) for tp in tps):
                return
            worker.require_alive()
            await asyncio.sleep(0.2)
        raise RuntimeError(f"group {group} did not get through {topic} in time")
    finally:
        await consumer.stop()
        await admin.close()


async def topics_with(setting: Setting, part: str) -> list[str]:
    """The topics of this run with `part` in their names."""
    admin = AIOKafkaAdminClient(bootstrap_servers=setting.kafka)
    await admin.start()
    try:
        return [n for n in await admin.list_topics() if setting.prefix in n and part in n]
    finally:
        await admin.close()


async def delete_topics(setting: Setting) -> None:
    """Delete all topics of a run, those too whose names do not begin with its prefix."""
    left = [n for n in await topics_with(setting, "") if not n.startswith(setting.prefix)]
    await setting.delete_topics()
    if left:
        admin = AIOKafkaAdminClient(bootstrap_servers=setting.kafka, request_timeout_ms=20_000)
        await admin.start()
        try:
            await admin.delete_topics(left)
        finally:
            await admin.close()


async def records_of(setting: Setting, topic: str) -> AsyncIterator[Any]:
    """The committed records of a topic."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=setting.kafka,
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, p) for p in range(setting.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        while [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    yield record
    finally:
        await consumer.stop()


async def credits_granted(setting: Setting, topic: str) -> tuple[int, int]:
    """How many purchases the events tell of, each once, and the sum of their credits."""
    decode = msgspec.json.Decoder(_Event).decode
    granted: dict[str, int] = {}
    async for record in records_of(setting, topic):
        data = decode(record.value).data
        granted[data.purchase_id] = data.credits
    return len(granted), sum(granted.values())


async def total_credits(setting: Setting, topic: str, merchant: Callable[[Any], Any]) -> int:
    """The credits of all merchants in a changelog; `merchant` finds their rows in it."""
    totals: dict[bytes, int] = {}
    async for record in records_of(setting, topic):
        try:
            row = merchant(msgspec.json.decode(record.value))
        except msgspec.DecodeError:
            continue
        if isinstance(row, dict) and "merchant_id" in row:
            totals[record.key] = row.get("total_credits_purchased", 0)
    return sum(totals.values())
