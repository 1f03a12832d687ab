"""Webhook records per second on stock Faust, with the same decode, rows and decide."""

import sys

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.events import Purchases
from bench.load import Load
from bench.setting import Setting, WorkerProcess, say
from billing_stream import topics as names

WAIT_SECONDS_MAX = 240.0


async def measure(setting: Setting, merchants: int, records: int) -> dict[str, float]:
    """Records per second."""
    await setting.create_topics()
    admin = AIOKafkaAdminClient(bootstrap_servers=setting.kafka)
    await admin.start()
    topic = f"{setting.prefix}stock-events"
    await admin.create_topics([NewTopic(topic, setting.partitions, 1)])
    await admin.close()
    command = [sys.executable, "-m", "bench.stock_app", "worker", "-l", "warning"]
    worker = WorkerProcess(setting, command)
    async with Load(setting, merchants, records) as load, Purchases(setting, topic) as events:
        say(f"stock Faust: preparing {records} purchases, then {records} webhooks")
        await load.prepare()
        await worker.start(wait=False)
        # Its commands publish nothing: one webhook behind them all tells that they are done.
        await _commands_done(setting)
        await load.send(names.PURCHASE_UPDATED, load.webhooks(range(records)))
        try:
            await events.wait_for(records, WAIT_SECONDS_MAX)
        finally:
            await worker.stop()
        return {"records_per_s": (events.count - 1) / (events.last - events.first)}


async def _commands_done(setting: Setting) -> None:
    """Wait until the group has committed the whole command topic."""
    import asyncio
    import time

    admin = AIOKafkaAdminClient(bootstrap_servers=setting.kafka)
    await admin.start()
    topic = setting.topics.name(names.COMMANDS)
    end = time.monotonic() + WAIT_SECONDS_MAX
    try:
        from aiokafka import AIOKafkaConsumer

        consumer = AIOKafkaConsumer(bootstrap_servers=setting.kafka)
        await consumer.start()
        while time.monotonic() < end:
            offsets = await admin.list_consumer_group_offsets(f"{setting.prefix}stock")
            committed = {tp: o.offset for tp, o in offsets.items() if tp.topic == topic}
            if len(committed) == setting.partitions:
                ends = await consumer.end_offsets(list(committed))
                if all(committed[tp] >= ends[tp] for tp in committed):
                    await consumer.stop()
                    return
            await asyncio.sleep(0.3)
        await consumer.stop()
        raise RuntimeError("stock Faust did not get through its commands in time")
    finally:
        await admin.close()
