"""Bad records of every kind among good ones, on a real broker with a real worker.

BILLING_POISON_RECORDS says how many bad ones (with ten times as many good ones).
"""

import json
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import Audit
from tests.support.worker import create_topics, environment, worker

PARTITIONS = 4
BAD = int(os.environ.get("BILLING_POISON_RECORDS", "2000"))
GOOD_PER_BAD = 10
SECONDS_MAX = 60 + BAD / 50
M1 = "11111111-1111-4111-8111-111111111111"

pytestmark = [pytest.mark.full, pytest.mark.timeout(SECONDS_MAX * 2 + 60)]

Fuzz = Callable[[random.Random], bytes | None]


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


def truncated(rng: random.Random) -> bytes:
    whole = text({"merchant_id": M1, "charge_id": "c", "status": "ACTIVE", "n": rng.random()})
    return whole[: rng.randrange(1, len(whole) - 1)]


WEBHOOK = {"merchant_id": M1, "charge_id": "c", "status": "ACTIVE"}
# Bad on each of the topics they are sent to, whatever the chance.
KINDS: list[Fuzz] = [
    lambda rng: b"\xff" + rng.randbytes(rng.randrange(1, 200)),
    lambda _: None,
    lambda _: b"",
    truncated,
    lambda rng: text(rng.choice([[], "x", 7, None, True, [WEBHOOK], 1e308])),
    lambda rng: text({**WEBHOOK, "merchant_id": rng.choice(["x", 7, None, M1 + "0", [M1], {}])}),
    lambda _: text({"merchant_id": M1, "status": "ACTIVE"}),
    lambda rng: text({**WEBHOOK, "charge_id": rng.choice(["", 7, None, "x" * 256, "a\0b", []])}),
    lambda rng: text({"event_id": "e", "data": rng.choice([7, [], "x", {"merchant_id": 7}])}),
    lambda _: text({**WEBHOOK, "more": "x" * 300_000}),
    lambda _: b'{"merchant_id":' + b"[" * 5000,
    lambda rng: text({**WEBHOOK, "merchant_id": None, "amount": rng.choice(["-1", "NaN", "x"])}),
]
TOPICS = (names.PURCHASE_UPDATED, names.PURCHASE_REFUNDED, names.COMMANDS, names.MERCHANT_CREATED)


async def send_all(kafka: str, prefix: str, rng: random.Random) -> tuple[set[str], Counter[str]]:
    """The merchants that must exist, and the references that must be dead letters."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=5)
    await producer.start()
    merchants: set[str] = set()
    bad: list[Any] = []
    try:
        for number in range(BAD):
            topic, kind = rng.choice(TOPICS), KINDS[number % len(KINDS)]
            value = kind(rng)
            keys = [b"", b"\xff\xfe", M1.encode(), rng.randbytes(8), *([None] if value else [])]
            bad.append(
                await producer.send(
                    prefix + topic,
                    value,
                    key=rng.choice(keys),
                    partition=rng.randrange(PARTITIONS),
                )
            )
            for _ in range(GOOD_PER_BAD):
                merchant = str(uuid.UUID(int=rng.getrandbits(128), version=4))
                merchants.add(merchant)
                created = {"merchant_id": merchant, "platform_name": "shopify", "domain": merchant}
                await producer.send(
                    prefix + names.MERCHANT_CREATED,
                    text(created),
                    key=merchant.encode(),
                    partition=partition_of(merchant, PARTITIONS),
                )
        await producer.flush()
        refs: Counter[str] = Counter()
        for sent in bad:
            at = await sent
            refs[f"{at.topic}[{at.partition}]@{at.offset}"] += 1
        return merchants, refs
    finally:
        await producer.stop()


async def test_every_bad_record_is_a_dead_letter_once_and_every_good_one_is_processed(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS))
    await create_topics(env)
    audit = Audit(kafka, Topics("billing-stream", prefix))
    async with worker(env, folder) as one:
        merchants, bad = await send_all(kafka, prefix, random.Random(20260101))
        end = time.monotonic() + SECONDS_MAX
        while sum((await audit.lag()).values()):
            assert one.running, one.tail()
            assert time.monotonic() < end

        assert one.running, one.tail()
        letters = await audit.dead_letters()
        rows = await audit.table(names.BILLING_RECORDS)

    found = Counter(f"{x['topic']}[{x['partition']}]@{x['offset']}" for x in letters)
    assert found == bad
    assert set(rows) == merchants
    assert all(letter["reason"] for letter in letters)


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
                    text(value),
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
