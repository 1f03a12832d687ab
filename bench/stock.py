"""Webhook records per second on stock Faust, with the same decode, rows and decide."""

import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from bench.events import Purchases
from bench.load import Load
from bench.setting import Setting, WorkerProcess, say
from billing_stream.records import topics as names

WAIT_SECONDS_MAX = 240.0


async def measure(setting: Setting, merchants: int, records: int) -> dict[str, float]:
    """Records per second."""
    await setting.create_topics()
    admin = AIOKafkaAdminClient(bootstrap_servers=setting.kafka)
    await admin.start()
    topic = f"{setting.prefix}stock-events"
    await admin.create_topics([NewTopic(topic, setting.partitions, 1)])
    await admin.close()
    command = [sys.executable, "-m", "bench.stock_app", "worker", "-l", "error"]
    async with (
        Load(setting, merchants, records) as load,
        Purchases(setting, topic) as events,
        WorkerProcess(setting, command) as worker,
    ):
        say(f"stock Faust: preparing {records} purchases, then {records} webhooks")
        await load.prepare()
        await worker.start(wait=False)
        await _commands_done(setting, worker)
        await load.send(names.PURCHASE_UPDATED, load.webhooks(range(records)))
        await events.wait_for(records, WAIT_SECONDS_MAX, worker)
        return {"records_per_s": (events.count - 1) / (events.last - events.first)}


async def _commands_done(setting: Setting, worker: WorkerProcess) -> None:
    """Wait until the group has committed the whole command topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=setting.kafka)
    consumer = AIOKafkaConsumer(bootstrap_servers=setting.kafka)
    await admin.start()
    await consumer.start()
    end = time.monotonic() + WAIT_SECONDS_MAX
    try:
        while time.monotonic() < end:
            if await _lag(setting, admin, consumer) == 0:
                return
            worker.require_alive()
            await asyncio.sleep(0.3)
        raise RuntimeError("stock Faust did not get through its commands in time")
    finally:
        await consumer.stop()
        await admin.close()


async def _lag(
    setting: Setting, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer
) -> int | None:
    topic = setting.topics.name(names.COMMANDS)
    try:
        offsets = await admin.list_consumer_group_offsets(f"{setting.prefix}stock")
    except KafkaError:
        # There is no such group before the worker has joined it.
        return None
    committed = {tp: o.offset for tp, o in offsets.items() if tp.topic == topic}
    if len(committed) < setting.partitions:
        return None
    ends = await consumer.end_offsets(list(committed))
    return int(sum(ends[tp] - committed[tp] for tp in committed))
