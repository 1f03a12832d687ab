"""A stopped input on a real broker: it outlives its worker, and commands of operators lift it."""

import json
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import Audit
from tests.support.shop import create_merchants, shop
from tests.support.worker import Worker, create_topics, environment, run, worker

PARTITIONS = 2
LIMIT = 20
P = 1
WAIT_SECONDS = 40.0
CREATED = names.MERCHANT_CREATED
# Merchants of the partition whose input stops.
ANNA, BERT, CARL, DORA = [
    m
    for m in (str(uuid.UUID(int=n, version=4)) for n in range(40))
    if partition_of(m, PARTITIONS) == P
][:4]


def created(merchant: str) -> bytes:
    value = {"merchant_id": merchant, "platform_name": "shopify", "domain": f"{merchant}.example"}
    return json.dumps(value).encode()


async def send(kafka: str, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=P)


async def get(url: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url + path) as response:
        return response.status, await response.text()


async def known(audit: Audit, merchant: str) -> None:
    """Wait until the merchant has a row."""
    end = time.monotonic() + WAIT_SECONDS
    while merchant not in await audit.table(names.BILLING_RECORDS):
        assert time.monotonic() < end, merchant


async def warnings(running: Worker) -> list[str]:
    """The warnings of a worker that is ready, without problems."""
    status, body = await get(running.url, "/ready")
    ready = json.loads(body)["data"]
    assert (status, ready["problems"]) == (200, [])
    return list(ready["warnings"])


async def require_stopped(running: Worker, name: str) -> None:
    """Ready with a warning, in metrics too."""
    assert await warnings(running) == [
        f"input {name} is stopped: {LIMIT + 1} invalid records in a row"
    ]
    _, metrics = await get(running.url, "/metrics")
    assert f'billing_input_stopped{{partition="{P}",topic="{CREATED}"}} 1.0' in metrics
    assert f'billing_input_stopped{{partition="0",topic="{CREATED}"}} 0.0' in metrics


async def inputs(env: dict[str, str], *words: str, code: int = 0) -> str:
    ended, output = await run(env, "inputs", *words)
    assert ended == code, output
    assert "Traceback" not in output
    return output


async def listed(env: dict[str, str], topic: str) -> dict[str, Any]:
    """What `list --json` says of an input of partition P."""
    lines = (await inputs(env, "list", "--json")).splitlines()
    found = [json.loads(line) for line in lines]
    assert len(found) == len(names.INPUTS) * PARTITIONS
    (one,) = [each for each in found if (each["topic"], each["partition"]) == (topic, P)]
    return dict(one)


@pytest.mark.timeout(180)
async def test_stopped_input_outlives_its_worker_and_is_resumed_by_an_operator(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(
        kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS), BILLING_POISON_IN_A_ROW=str(LIMIT)
    )
    await create_topics(env)
    audit = Audit(kafka, Topics("billing-stream", prefix))
    topic = prefix + CREATED
    where, why = (CREATED, str(P)), ("--reason", "the producer is repaired", "--by", "ann")
    async with worker(env, folder) as first:
        await create_merchants(kafka, prefix, {ANNA: "anna.example"})
        await known(audit, ANNA)
        begin = (await listed(env, topic))["position"]
        bad = [b"{"] * (LIMIT + 1)
        await send(kafka, topic, *bad, created(BERT), *bad[:3], created(CARL))
        await first.logged("is stopped")

        await require_stopped(first, f"{topic}[{P}]")
        # Another input of the partition, and requests of its merchants.
        command = {"command": "create_merchant", "merchant_id": DORA, "platform": "shopify"}
        raw = json.dumps({**command, "domain": "dora.example"}).encode()
        await send(kafka, prefix + names.COMMANDS, raw)
        await known(audit, DORA)
        async with shop("anna.example", first) as client:
            assert (await client.insist("POST", "/api/billing/trials")).status == 201
        await first.kill()

    async with worker(env, folder) as second:
        await require_stopped(second, f"{topic}[{P}]")
        assert len(await audit.dead_letters()) == LIMIT
        stopped = await listed(env, topic)
        tipped = begin + LIMIT
        assert (stopped["state"], stopped["next_offset"]) == ("stopped", tipped)
        assert stopped["reason"] == f"{LIMIT + 1} invalid records in a row"
        assert f"inputs resume {topic} {P} --reason" in await inputs(env, "list")

        # One that is invalid, and one that is not.
        for offset in (tipped, tipped + 1):
            said = await inputs(env, "skip", f"{CREATED}[{P}]@{offset}", *why)
            assert "its input stays stopped" in said
        again = await inputs(env, "skip", f"{CREATED}[{P}]@{tipped}", *why, code=1)
        assert "rejected: NOT_THE_NEXT" in again
        assert "nothing to accept" in await inputs(env, "accept", *why)
        assert "is resumed" in await inputs(env, "resume", *where, *why)
        await known(audit, CARL)

        assert (await listed(env, topic))["state"] == "processed"
        assert json.loads((await get(second.url, "/ready"))[1])["data"]["warnings"] == []
        assert "NOT_STOPPED" in await inputs(env, "resume", *where, *why, code=1)
        assert BERT not in await audit.table(names.BILLING_RECORDS)
        letters = await audit.dead_letters()
        assert sorted(one["offset"] for one in letters if one["topic"] == topic) == [
            *range(begin, begin + LIMIT + 5)
        ]
        assert await second.stop() == 0

    for check in (("verify",), ("replay",)):
        ended, output = await run(env, *check)
        assert ended == 0, output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("resume", "evt.x", "0"), "'evt.x' is not an input that can be stopped"),
        (("resume", names.SHOPS, "0"), "is not an input that can be stopped"),
        (("resume", CREATED, "9"), "has the partitions 0 to 3"),
        (("skip", f"{CREATED}@7"), "is not TOPIC[PARTITION]@OFFSET"),
        (("accept", CREATED), "name the partition too"),
    ],
)
async def test_wrong_arguments_end_with_2_and_say_what_is_wrong(
    kafka: str, prefix: str, words: tuple[str, ...], says: str
) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)

    assert says in await inputs(env, *words, "--reason", "x", code=2)


async def test_command_without_a_worker_says_that_it_waits(kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)

    said = await inputs(env, "resume", CREATED, "0", "--reason", "x", "--wait", "1s", code=1)

    assert f"not decided yet: {prefix}{names.OPERATOR_COMMANDS}[0]@0 waits" in said
