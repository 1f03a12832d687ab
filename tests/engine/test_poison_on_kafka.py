"""A topic of nothing but invalid records, on a real broker with a real worker."""

import json
import time
import uuid
from pathlib import Path

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import Audit
from tests.support.worker import create_topics, environment, worker

PARTITIONS = 4


@pytest.mark.full
@pytest.mark.timeout(90)
async def test_topic_of_nothing_but_rubbish_stops_one_input(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(
        kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS), BILLING_POISON_IN_A_ROW="100"
    )
    await create_topics(env)
    audit = Audit(kafka, Topics("billing-stream", prefix))
    merchants = [str(uuid.UUID(int=n, version=4)) for n in range(40)]
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    async with worker(env, folder) as one:
        await producer.start()
        try:
            for _ in range(5000):
                await producer.send(prefix + names.PURCHASE_UPDATED, b"rubbish", partition=1)
            for merchant in merchants:
                value = {"merchant_id": merchant, "platform_name": "shopify", "domain": merchant}
                await producer.send(
                    prefix + names.MERCHANT_CREATED,
                    json.dumps(value).encode(),
                    key=merchant.encode(),
                    partition=partition_of(merchant, PARTITIONS),
                )
            await producer.flush()
        finally:
            await producer.stop()
        end = time.monotonic() + 40
        while not set(merchants) <= set(await audit.table(names.BILLING_RECORDS)):
            assert time.monotonic() < end, one.tail()
        async with aiohttp.ClientSession() as session, session.get(one.url + "/ready") as ready:
            status, said = ready.status, await ready.text()

        assert one.running
        assert status == 200
        stopped = f"input {prefix}{names.PURCHASE_UPDATED}[1]"
        assert f"{stopped} is stopped: 101 invalid records in a row" in said
        assert f"{stopped} stops: 101 invalid records in a row" in one.tail()
        assert len(await audit.dead_letters()) == 100
