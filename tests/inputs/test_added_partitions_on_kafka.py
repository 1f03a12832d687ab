"""Partitions added to topics of a running system: read, warned of, accepted, and verified."""

import asyncio
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.inputs.test_on_kafka import warnings
from tests.support.audit import Audit
from tests.support.worker import Worker, create_topics, environment, run, worker

PARTITIONS = 2
MORE = 5
SECONDS = 100.0
CREATED, UPDATED = names.MERCHANT_CREATED, names.PURCHASE_UPDATED
MERCHANTS = [str(uuid.UUID(int=n, version=4)) for n in range(20)]


async def grow(kafka: str, topics: list[str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(MORE) for topic in topics})
    finally:
        await admin.close()


async def tell(kafka: str, prefix: str, merchants: list[str], partitions: int) -> None:
    """A producer that spreads keys over all partitions that the topic has now."""
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        while len(await producer.partitions_for(prefix + CREATED)) < partitions:
            # The broker answers that they are made before it knows them itself.
            await producer.client.force_metadata_update()
        for merchant in merchants:
            value = {
                "merchant_id": merchant,
                "platform_name": "shopify",
                "domain": f"{merchant}.example",
            }
            await producer.send_and_wait(
                prefix + CREATED,
                json.dumps(value).encode(),
                key=merchant.encode(),
                partition=partition_of(merchant, partitions),
            )


async def known(audit: Audit, merchants: list[str]) -> None:
    end = time.monotonic() + SECONDS
    while not set(merchants) <= (await audit.table(names.BILLING_RECORDS)).keys():
        assert time.monotonic() < end
        await asyncio.sleep(0.3)


async def warned(workers: list[Worker], *, text: str, there: bool) -> None:
    """Wait until some worker has such a warning, or none has."""
    end = time.monotonic() + SECONDS
    while (text in str([await warnings(one) for one in workers])) is not there:
        assert time.monotonic() < end
        await asyncio.sleep(0.3)


async def output_of(env: dict[str, str], *words: str, code: int = 0) -> str:
    ended, output = await run(env, *words)
    assert (ended, "Traceback" in output) == (code, False), output
    return output


async def topics_finding(env: dict[str, str]) -> list[dict[str, Any]]:
    output = await output_of(env, "doctor", "--json")
    return [f for f in json.loads(output[output.index("[\n") :]) if f["check"] == "topics"]


@pytest.mark.full
@pytest.mark.timeout(400)
async def test_added_partitions_are_read_until_accepted_with_a_warning(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS))
    await create_topics(env)
    audit = Audit(kafka, Topics("billing-stream", prefix))
    grown = [CREATED, names.COMMANDS, names.event_type("trial.started")]
    async with worker(env, folder) as first, worker(env, folder) as second:
        both = [first, second]
        await tell(kafka, prefix, MERCHANTS[:2], PARTITIONS)
        await known(audit, MERCHANTS[:2])

        await grow(kafka, [prefix + topic for topic in grown])
        await tell(kafka, prefix, MERCHANTS, MORE)
        await known(audit, MERCHANTS)
        await warned(both, text="partitions were added to topics", there=True)
        (finding,) = [f for f in await topics_finding(env) if f["verdict"] == "WARN"]
        assert f"partitions were added: {prefix}{names.COMMANDS}[2]" in finding["said"]
        assert "was added after the topic was created" in await output_of(env, "inputs", "list")

        said = await output_of(env, "inputs", "accept", "--reason", "more producers")
        assert f"{prefix}{CREATED}[4]" in said
        await warned(both, text="partitions were added", there=False)
        assert not [f for f in await topics_finding(env) if f["verdict"] == "WARN"]
        again = await output_of(env, "inputs", "accept", CREATED, "4", "--reason", "again")
        assert "nothing to accept" in again
        assert [await one.stop() for one in both] == [0, 0]
    assert "forwarded" in await output_of(env, "verify")
    await output_of(env, "replay")


async def test_start_with_more_partitions_everywhere_keeps_each_merchant(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS))
    await create_topics(env)
    topics = Topics("billing-stream", prefix)
    audit = Audit(kafka, topics)
    async with worker(env, folder) as before:
        await tell(kafka, prefix, MERCHANTS[:6], PARTITIONS)
        await known(audit, MERCHANTS[:6])
        assert await before.stop() == 0

    await grow(kafka, [topic.name for topic in topics.all()])
    await tell(kafka, prefix, MERCHANTS, MORE)
    refused = await output_of({**env, "BILLING_PARTITIONS": "4"}, "topics", "check", code=2)
    assert "(2 are in use), and BILLING_PARTITIONS says 4" in refused
    for _ in range(2):
        # It fences partitions that no lane has; the second one ends the transactions of the first.
        refused = await output_of({**env, "BILLING_PARTITIONS": str(MORE)}, "worker", code=2)
        assert f"was not written with BILLING_PARTITIONS={MORE}" in refused

    async with worker(env, folder) as after:
        await known(audit, MERCHANTS)
        for merchant in MERCHANTS[:6]:
            row = (await audit.table(names.BILLING_RECORDS))[merchant]
            assert row["version"] == 1
        assert await after.stop() == 0
    await output_of(env, "verify")
