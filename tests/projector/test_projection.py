"""The projector on a real Kafka and a real PostgreSQL."""

import asyncio
import json
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.records import topics as names
from tests.support.ports import free_port
from tests.support.projection import (
    PARTITIONS,
    ProjectorProcess,
    all_there,
    committed_log,
    create_topics,
    fetch,
    offsets,
    projector,
    projector_environment,
    until,
    write_in_pieces,
)
from tests.support.worker import run

pytestmark = pytest.mark.timeout(180)
# Others may use the machine.
SECONDS_MAX = 120.0
NOBODY = "00000000-0000-4000-8000-000000000000"
MOMENT = "2026-01-01T00:00:00Z"


async def test_a_projector_that_is_killed_goes_on_without_a_gap(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 500)
    env = projector_environment(kafka, prefix, postgres_url)

    for kill in range(3):
        before = await offsets(postgres_url)
        async with projector(env, folder) as process:
            writing = asyncio.create_task(write_in_pieces(log, 3, 1_000))
            await until(partial(has_grown, postgres_url, before), SECONDS_MAX, f"kill {kill}")
            await process.kill()
        await writing
    async with projector(env, folder):
        await until(partial(all_there, postgres_url, log), SECONDS_MAX, "all is there")


async def test_two_projectors_share_the_partitions_and_take_over_from_each_other(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 200)
    env = projector_environment(kafka, prefix, postgres_url)

    async with projector(env, folder) as first, projector(env, folder) as second:
        await first.ready(SECONDS_MAX)
        await second.ready(SECONDS_MAX)
        await until(partial(share, first, second), SECONDS_MAX, "both have partitions")
        writing = asyncio.create_task(write_in_pieces(log, 6, 500))
        # It is paused for longer than its session, and does not know that it lost its part.
        first.pause()
        await asyncio.sleep(4)
        first.resume()
        await writing
        await second.kill()
        await until(partial(all_there, postgres_url, log), SECONDS_MAX, "all is there")
        assert await first.stop() == 0


async def has_open_rejects(process: ProjectorProcess, count: int) -> bool:
    """Whether so many are counted, which is done after they were written."""
    return (await process.metrics())["billing_projector_rejects_open"] == count


async def test_a_record_that_fits_nowhere_is_put_aside_and_the_rest_goes_on(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    topics = await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 20)
    await log.write(100)
    event = topics.name(names.event_type("trial.started"))
    bad = [
        (topics.changelog(names.BILLING_RECORDS), b"m", b"no json"),
        (topics.changelog(names.BILLING_RECORDS), b"m", too_many_credits()),
        (topics.changelog(names.CREDIT_PURCHASES), b"p", b"{}"),
        (event, b"m", event_of_nobody()),
        (event, b"m", b"[]"),
    ]
    await send(kafka, bad)
    await log.write(100)

    async with projector(projector_environment(kafka, prefix, postgres_url), folder) as process:
        await until(partial(all_there, postgres_url, log), SECONDS_MAX, "the good ones are there")
        await until(partial(no_lag, process), SECONDS_MAX, "no lag")
        await until(partial(has_open_rejects, process, len(bad)), SECONDS_MAX, "rejects")
        metrics = await process.metrics()
    rejects = await fetch(postgres_url, "SELECT * FROM projection_rejects ORDER BY topic")

    assert len(rejects) == len(bad)
    assert {(r["topic"], r["value"]) for r in rejects} == {(topic, v) for topic, _, v in bad}
    assert all(row["reason"] for row in rejects)
    assert metrics["billing_projector_rejects_total"] == len(bad)
    assert "projection_rejects" in process.tail()


async def test_without_postgres_it_waits_and_stops_when_told(
    kafka: str, prefix: str, folder: Path
) -> None:
    await create_topics(kafka, prefix)
    nobody = f"postgresql://postgres:secret@127.0.0.1:{free_port()}/billing"

    async with projector(projector_environment(kafka, prefix, nobody), folder) as process:
        await until(partial(is_down, process), SECONDS_MAX, "it says that PostgreSQL is away")
        async with aiohttp.ClientSession() as session:
            live = await session.get(f"{process.url}/health")
            ready = await session.get(f"{process.url}/ready")
        code = await process.stop()

    assert (live.status, ready.status, code) == (200, 503, 0)
    assert process.tail().count("PostgreSQL is away") == 1
    assert "secret" not in process.tail()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"DATABASE_URL": "mysql://me:secret@here/db"}, "DATABASE_URL is not an address"),
        ({"BILLING_PROJECTION_SCHEMA": "a; b"}, "BILLING_PROJECTION_SCHEMA"),
        ({"BILLING_TOPIC_PREFIX": "none."}, "billing-stream topics create"),
    ],
)
async def test_wrong_settings_are_named(
    kafka: str, prefix: str, postgres_url: str, changed: dict[str, str], said: str
) -> None:
    await create_topics(kafka, prefix)
    env = {**projector_environment(kafka, prefix, postgres_url), **changed}

    code, output = await run(env, "projector")

    assert code == 2
    assert said in output
    assert "secret" not in output
    assert "Traceback" not in output


async def test_a_wrong_password_ends_it(kafka: str, prefix: str, postgres_url: str) -> None:
    await create_topics(kafka, prefix)
    address = postgres_url.rsplit("@", 1)[1]
    wrong = f"postgresql://postgres:wrong@{address}"

    code, output = await run(projector_environment(kafka, prefix, wrong), "projector")

    assert code == 2
    assert "PostgreSQL does not let us in" in output


async def has_grown(database_url: str, before: int) -> bool:
    return await offsets(database_url) > before


async def no_lag(process: ProjectorProcess) -> bool:
    metrics = await process.metrics()
    return (
        metrics.get("billing_projector_lag_records") == 0
        and metrics["billing_projector_up_to_date_timestamp_seconds"] > 0
    )


async def share(*processes: ProjectorProcess) -> bool:
    parts = [(await p.metrics())["billing_projector_partitions"] for p in processes]
    return all(parts) and sum(parts) == PARTITIONS * (2 + len(names.EVENT_TYPES))


async def is_down(process: ProjectorProcess) -> bool:
    try:
        metrics = await process.metrics()
    except aiohttp.ClientError:
        return False
    return metrics["billing_projector_database_failures_total"] > 1


async def send(kafka: str, records: list[tuple[str, bytes, bytes]]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for topic, key, value in records:
            headers = [("sequence", b"1")]
            await producer.send_and_wait(topic, value, key=key, partition=0, headers=headers)


def too_many_credits() -> bytes:
    row = {"merchant_id": NOBODY, "created_at": MOMENT, "updated_at": MOMENT, "version": 1}
    return json.dumps({**row, "total_credits_purchased": 1 << 63}).encode()


def event_of_nobody() -> bytes:
    data = {"merchant_id": "nobody", "ends_at": MOMENT, "credits": 500}
    kind = names.event_type("trial.started")
    envelope = {"event_id": NOBODY, "event_type": kind, "timestamp": MOMENT, "data": data}
    return json.dumps(envelope).encode()
