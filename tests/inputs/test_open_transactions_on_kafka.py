"""A transaction of another producer that stays open: who reads behind it says so, and waits."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import Audit
from tests.support.process import start
from tests.support.worker import Worker, create_topics, environment, run, worker
from tests.support.world import M1

SECONDS = 60.0


@asynccontextmanager
async def open_transaction(kafka: str, topic: str, partition: int) -> AsyncIterator[int]:
    """A record of a transaction that is not ended before this context is; its offset."""
    options = {"bootstrap_servers": kafka, "transaction_timeout_ms": 900_000}
    async with AIOKafkaProducer(**options, transactional_id=f"hangs-{topic}") as producer:
        await producer.begin_transaction()
        sent = await producer.send_and_wait(topic, b"{}", key=b"row", partition=partition)
        try:
            yield int(sent.offset)
        finally:
            await producer.abort_transaction()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    end = time.monotonic() + SECONDS
    while not await holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.2)


async def get(running: Worker, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(running.url + path) as response:
        return await response.text()


async def ready(running: Worker) -> Any:
    body = json.loads(await get(running, "/ready"))
    return body["data"] or body["error"]["details"]


async def metric(running: Worker, name: str, topic: str) -> float:
    families = text_string_to_metric_families(await get(running, "/metrics"))
    found = [s for family in families for s in family.samples if s.name == name]
    return sum(one.value for one in found if one.labels["topic"] == topic)


async def test_open_transaction_of_a_producer_is_lag_and_reported_until_it_ends(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(
        kafka,
        prefix,
        BILLING_PARTITIONS="1",
        BILLING_STUCK_NOT_READY_AFTER="8s",
        BILLING_STUCK_EXIT_AFTER="15s",
    )
    await create_topics(env)
    audit = Audit(kafka, Topics("billing-stream", prefix))
    topic = prefix + names.COMMANDS
    value = {
        "command": "create_merchant",
        "merchant_id": M1,
        "platform": "shopify",
        "domain": "a.b",
    }
    async with worker(env, folder) as running:
        async with open_transaction(kafka, topic, 0) as offset:
            async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
                await producer.send_and_wait(topic, json.dumps(value).encode(), partition=0)
            where = f"a transaction is open at {topic}[0]@{offset}"

            async def warned() -> bool:
                return any(where in line for line in (await ready(running))["warnings"])

            async def verifying() -> bool:
                return where in output.read_text()

            await until(warned)
            assert (await ready(running))["problems"] == []
            assert await metric(running, "billing_lag_records", names.COMMANDS) == 2
            assert await metric(running, "billing_input_held_back_seconds", names.COMMANDS) > 0
            _, doctor = await run(env, "doctor", "--json", "--timeout", "60")
            (finding,) = [
                one
                for one in json.loads(doctor[doctor.index("[\n") :])
                if one["check"] == "open transactions"
            ]
            assert where in finding["said"]
            assert f"--partition 0 --start-offset {offset}" in finding["todo"]
            output = folder / "verify.log"
            output.touch()
            verify = start(("verify",), env, output)
            await until(verifying)
            assert running.running
            assert verify.returncode is None

        async def known() -> bool:
            return M1 in await audit.table(names.BILLING_RECORDS)

        async def quiet() -> bool:
            return not (await ready(running))["warnings"]

        await until(known)
        await until(quiet)
        await asyncio.wait_for(verify.wait(), SECONDS)
        assert "Traceback" not in output.read_text()


async def test_worker_that_restores_behind_an_open_transaction_waits_and_says_so(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(
        kafka,
        prefix,
        BILLING_PARTITIONS="1",
        BILLING_STUCK_NOT_READY_AFTER="2s",
        BILLING_STUCK_EXIT_AFTER="6s",
    )
    await create_topics(env)
    changelog = Topics("billing-stream", prefix).changelog(names.SHOPS_TABLE)
    starting = Worker(env, folder)
    try:
        async with open_transaction(kafka, changelog, 0) as offset:
            where = f"a transaction is open at {changelog}[0]@{offset}"
            await starting.start()
            await starting.answers()

            async def reported() -> bool:
                return any(where in line for line in (await ready(starting))["problems"])

            await until(reported)
            await starting.logged(f"a restore waits: {where}")
            assert starting.running
        await starting.ready()
    finally:
        await starting.kill()
