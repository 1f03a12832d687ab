"""Inputs whose topics are trimmed or created again while real workers read them."""

import asyncio
import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.inputs.test_on_kafka import created, get, inputs, known, send, warnings
from tests.support.audit import Audit
from tests.support.shop import shop
from tests.support.topic_changes import recreate, trim
from tests.support.worker import Worker, create_topics, environment, run, worker

PARTITIONS = 2
P = 1
CREATED, UPDATED, COMMANDS = names.MERCHANT_CREATED, names.PURCHASE_UPDATED, names.COMMANDS
WHY = ("--reason", "the topic was restored", "--by", "ann")
MERCHANTS = [
    merchant
    for merchant in (str(uuid.UUID(int=n, version=4)) for n in range(100))
    if partition_of(merchant, PARTITIONS) == P
]


def ordered(merchant: str) -> bytes:
    """A command that creates a merchant."""
    command = {"command": "create_merchant", "merchant_id": merchant, "platform": "shopify"}
    return json.dumps({**command, "domain": f"{merchant}.example"}).encode()


def adjusted(merchant: str, number: int) -> bytes:
    """A command that counts: processed twice, the balance is another one."""
    command = {"command": "adjust_credits", "merchant_id": merchant, "credits": 1}
    return json.dumps(
        {**command, "reason": "counted", "idempotency_key": f"{merchant}-{number}"}
    ).encode()


async def listed(env: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What `list --json` says of the inputs of partition P, by topic without the prefix."""
    found = [json.loads(line) for line in (await inputs(env, "list", "--json")).splitlines()]
    prefix = env["BILLING_TOPIC_PREFIX"]
    return {one["topic"].removeprefix(prefix): one for one in found if one["partition"] == P}


async def until_listed(env: dict[str, str], topic: str, **wanted: Any) -> dict[str, Any]:
    end = time.monotonic() + 40
    while True:
        found = (await listed(env))[topic]
        if found.items() >= wanted.items():
            return found
        assert time.monotonic() < end, found


@pytest.mark.timeout(240)
async def test_records_deleted_before_they_were_read_stop_their_input(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS))
    await create_topics(env)
    audit, topic = Audit(kafka, Topics("billing-stream", prefix)), prefix + CREATED
    async with worker(env, folder) as first:
        await send(kafka, topic, *map(created, MERCHANTS[:2]))
        await known(audit, MERCHANTS[1])
        first.pause()
        await send(kafka, topic, *map(created, MERCHANTS[2:7]))
        await trim(kafka, topic, P, 6)
        first.resume()
        await first.logged("were deleted before they were read")

        await first.ready()
        (warning,) = await warnings(first)
        # The fetch that was under way when the worker was paused may have brought the first one.
        found = re.fullmatch(
            rf"input {re.escape(topic)}\[{P}\] is stopped: offsets ([23]) to 5 were deleted before "
            "they were read; once that is accepted, reading continues at offset 6",
            warning,
        )
        assert found, warning
        _, metrics = await get(first.url, "/metrics")
        assert f'billing_input_topic_changed{{partition="{P}",topic="{CREATED}"}} 1.0' in metrics
        # Another input of the partition, and requests of its merchants.
        await send(kafka, prefix + COMMANDS, ordered(MERCHANTS[8]))
        await known(audit, MERCHANTS[8])
        async with shop(f"{MERCHANTS[0]}.example", first) as client:
            assert (await client.insist("POST", "/api/billing/trials")).status == 201
        await first.kill()

    async with worker(env, folder) as second:
        assert await warnings(second) == [warning]
        assert MERCHANTS[6] not in await audit.table(names.BILLING_RECORDS)
        said = await inputs(env, "resume", CREATED, str(P), *WHY, code=1)
        assert "TOPIC_CHANGED" in said
        for command in (("doctor",), ("verify", "--allow-lag")):
            code, output = await run(env, *command)
            assert code == 1, output
            assert f"offsets {found[1]} to 5 were deleted before they were read" in output

        assert "accepted" in await inputs(env, "accept", *WHY)
        await known(audit, MERCHANTS[6])
        assert await warnings(second) == []
        assert set(await audit.table(names.BILLING_RECORDS)) == {
            *(MERCHANTS[n] for n in (0, 1, 6, 8)),
            *MERCHANTS[2 : int(found[1])],
        }
        assert await second.stop() == 0


@pytest.mark.timeout(300)
async def test_topics_created_again_are_not_read_on_at_old_positions(
    kafka: str, prefix: str, folder: Path
) -> None:
    """One holds fewer records than were read by then, one as many, one more."""
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS))
    await create_topics(env)
    audit = Audit(kafka, Topics("billing-stream", prefix))
    anna, made, told = MERCHANTS[0], MERCHANTS[1:7], MERCHANTS[10:20]
    async with worker(env, folder) as first:
        await send(kafka, prefix + CREATED, created(anna), *map(created, made[:5]))
        await known(audit, anna)
        await send(kafka, prefix + COMMANDS, *(adjusted(anna, n) for n in range(6)))
        await send(kafka, prefix + UPDATED, *(b"{" for _ in range(6)))
        for topic in (CREATED, UPDATED, COMMANDS):
            await until_listed(env, topic, position=6)
        await recreate(env, *(prefix + topic for topic in (CREATED, UPDATED, COMMANDS)))
        await send(kafka, prefix + CREATED, *map(created, told))
        await send(kafka, prefix + UPDATED, *(b"{" for _ in range(6)))
        await send(kafka, prefix + COMMANDS, *(adjusted(anna, n) for n in range(10, 14)))
        for topic in (CREATED, UPDATED, COMMANDS):
            found = await until_listed(env, topic, state="stopped", position=6)
            assert "the topic was deleted and created again" in found["reason"]
            assert "reading continues at offset 0" in found["reason"]
        rows = await audit.table(names.BILLING_RECORDS)
        assert (set(rows) & {*told}, rows[anna]["credits_adjusted"]) == (set(), 6)
        await first.kill()

    async with worker(env, folder) as second:
        # All that can be stopped is, but the refunds.
        assert len(await warnings(second)) == 3 * PARTITIONS
        assert "accepted" in await inputs(env, "accept", *WHY)
        for topic, end in ((CREATED, 10), (UPDATED, 6), (COMMANDS, 4)):
            await until_listed(env, topic, state="processed", position=end)
        rows = await audit.table(names.BILLING_RECORDS)
        assert set(rows) >= {anna, *made[:5], *told}
        assert rows[anna]["credits_adjusted"] == 10
        assert await second.stop() == 0


@pytest.mark.timeout(200)
async def test_topic_created_again_without_a_worker_stops_at_the_start(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS))
    await create_topics(env)
    audit = Audit(kafka, Topics("billing-stream", prefix))
    async with worker(env, folder) as first:
        await send(kafka, prefix + CREATED, *map(created, MERCHANTS[:6]))
        await known(audit, MERCHANTS[5])
        assert await first.stop() == 0
    await recreate(env, prefix + CREATED)
    await send(kafka, prefix + CREATED, *map(created, MERCHANTS[10:20]))

    code, output = await run(env, "doctor")
    assert code == 1, output
    assert f"{prefix}{CREATED}[{P}]" in output
    async with worker(env, folder) as second:
        await second.logged("was deleted and created again")
        assert MERCHANTS[16] not in await audit.table(names.BILLING_RECORDS)
        assert "accepted" in await inputs(env, "accept", CREATED, str(P), *WHY)
        await known(audit, MERCHANTS[19])
        assert set(await audit.table(names.BILLING_RECORDS)) == {*MERCHANTS[:6], *MERCHANTS[10:20]}
        assert await second.stop() == 0


@pytest.mark.timeout(240)
async def test_changelog_created_again_starts_no_partition_and_is_named(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS))
    await create_topics(env)
    audit, topics = Audit(kafka, Topics("billing-stream", prefix)), Topics("billing-stream", prefix)
    shops = topics.changelog(names.SHOPS_TABLE)
    async with worker(env, folder) as first:
        await send(kafka, prefix + CREATED, created(MERCHANTS[0]))
        await known(audit, MERCHANTS[0])
        await recreate(env, shops)
        # The one that runs notices, too.
        await first.logged("the changelog of shops was deleted and created again")
        assert await asyncio.wait_for(first.process.wait(), 20) == 70

    for command in (("doctor",), ("verify",)):
        code, output = await run(env, *command)
        assert code == 1, output
        assert f"{shops}" in output
        assert "was deleted and created again" in output
    second = Worker(env, folder)
    await second.start()
    try:
        why = f"partition {P} does not start: the changelog of shops was deleted and created again"
        await second.logged(why)
        status, body = await get(second.url, "/ready")
        assert (status, why in body) == (503, True)
    finally:
        await second.kill()

    other = await inputs(env, "accept-changelog", names.CREDIT_PURCHASES, *WHY)
    assert "nothing to accept" in other
    assert "restart the workers" in await inputs(env, "accept-changelog", names.SHOPS_TABLE, *WHY)
    async with worker(env, folder) as third:
        await send(kafka, prefix + CREATED, created(MERCHANTS[1]))
        await known(audit, MERCHANTS[1])
        assert await third.stop() == 0
