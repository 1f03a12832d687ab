"""Kafka lost records, or has another log: the projector names it and stops nothing else."""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from billing_stream.projector.migrate import migrate
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.projection import (
    PARTITIONS,
    ProjectorProcess,
    all_there,
    committed_log,
    create_topics,
    fetch,
    projector,
    projector_environment,
    until,
)
from tests.support.projection_records import MERCHANT, OTHER, adjusted, partition_of_merchant
from tests.support.worker import run

pytestmark = [pytest.mark.timeout(180), pytest.mark.logs_errors]
SECONDS_MAX = 90.0
TOPIC = names.event_type("credits.adjusted")


async def send(kafka: str, topics: Topics, merchant: str, numbers: range) -> None:
    """Adjustments of 100 credits, numbered."""
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for number in numbers:
            value, headers = adjusted(merchant, number)
            await producer.send_and_wait(
                topics.name(TOPIC),
                value,
                key=merchant.encode(),
                partition=partition_of_merchant(merchant),
                headers=headers,
            )


async def trim(kafka: str, topic: str, partition: int, before: int) -> None:
    """Delete the records before an offset, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before)})
    finally:
        await admin.close()


async def recreate(kafka: str, topics: Topics, topic: str) -> None:
    """Delete a topic and create it again, empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        await until(partial(is_gone, admin, topic), SECONDS_MAX, "the topic is gone")
    finally:
        await admin.close()
    assert await create_topics(kafka, topics.prefix) == topics


async def is_gone(admin: AIOKafkaAdminClient, topic: str) -> bool:
    return topic not in await admin.list_topics()


async def sequences(url: str, merchant: str) -> list[int]:
    rows = await fetch(
        url,
        "SELECT sequence FROM billing_events WHERE merchant_id::text = $1 ORDER BY 1",
        merchant,
    )
    return [row["sequence"] for row in rows]


async def has(url: str, merchant: str, wanted: list[int]) -> bool:
    return await sequences(url, merchant) == wanted


async def readiness(process: ProjectorProcess) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{process.url}/ready") as response:
        return response.status, await response.json()


async def open_gaps(process: ProjectorProcess, number: int) -> bool:
    assert process.running, process.text()
    try:
        metrics = await process.metrics()
    except aiohttp.ClientError:
        return False
    return metrics.get("billing_projector_open_gaps") == number


async def project_once(env: Mapping[str, str], folder: Path, merchant: str, count: int) -> None:
    """Run a projector until it has these events, and stop it."""
    async with projector(env, folder) as process:
        wanted = list(range(1, count + 1))
        await until(partial(has, env["DATABASE_URL"], merchant, wanted), SECONDS_MAX, "projected")
        assert await process.stop() == 0


async def test_events_trimmed_while_it_was_away_are_a_gap_until_accepted(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    topics = await create_topics(kafka, prefix)
    topic, partition = topics.name(TOPIC), partition_of_merchant(MERCHANT)
    env = projector_environment(kafka, prefix, postgres_url)
    await send(kafka, topics, MERCHANT, range(1, 2))
    await project_once(env, folder, MERCHANT, 1)
    await send(kafka, topics, MERCHANT, range(2, 6))
    await trim(kafka, topic, partition, 4)

    async with projector(env, folder) as process:
        await until(partial(has, postgres_url, MERCHANT, [1, 5]), SECONDS_MAX, "read on")
        await until(partial(open_gaps, process, 1), SECONDS_MAX, "the metric has it")
        status, ready = await readiness(process)
        # What is not touched goes on.
        await send(kafka, topics, OTHER, range(1, 3))
        await until(partial(has, postgres_url, OTHER, [1, 2]), SECONDS_MAX, "the other one")
        listed = await run(env, "projector", "gaps")
        doctor = await run(env, "doctor")
        accepted = await run(
            env, "projector", "accept", f"{topic}[{partition}]@1", "--because", "INC-7"
        )
        await until(partial(open_gaps, process, 0), SECONDS_MAX, "no longer reported")
        after = await readiness(process)
        log = process.tail()
    history = await fetch(
        postgres_url,
        "SELECT complete, balance_after FROM billing_history WHERE merchant_id::text = $1 "
        "ORDER BY sequence",
        MERCHANT,
    )
    stored = await fetch(postgres_url, "SELECT * FROM projection_gaps")

    named = f"{topic}[{partition}] offsets 1 to 3 were deleted from Kafka"
    assert status == 200
    assert named in ready["warnings"][0]
    assert named in log
    assert (listed[0], named in listed[1]) == (1, True)
    assert named in doctor[1]
    assert accepted[0] == 0, accepted[1]
    assert after[1]["warnings"] == []
    assert [row["complete"] for row in history] == [True, False]
    assert [(row["from_offset"], row["to_offset"], row["accepted_reason"]) for row in stored] == [
        (1, 4, "INC-7")
    ]
    assert "@" in stored[0]["accepted_by"]


async def test_a_log_trimmed_up_to_what_was_projected_is_no_gap(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    topics = await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 4)
    topic = topics.name(names.event_type("credits.purchased"))
    env = projector_environment(kafka, prefix, postgres_url)
    await log.write(20)
    async with projector(env, folder) as process:
        # The last offset of each partition is the marker of its transaction.
        await until(partial(reached_ends, kafka, postgres_url, topic), SECONDS_MAX, "at its end")
        assert await process.stop() == 0
    for partition in range(PARTITIONS):
        await trim(kafka, topic, partition, -1)
    await log.write(20)

    async with projector(env, folder) as process:
        await until(partial(all_there, postgres_url, log), SECONDS_MAX, "all is there")
        _, ready = await readiness(process)

    assert ready["warnings"] == []
    assert await fetch(postgres_url, "SELECT * FROM projection_gaps") == []


async def reached_ends(kafka: str, url: str, topic: str) -> bool:
    rows = await fetch(
        url, "SELECT partition, next_offset FROM projection_positions WHERE topic = $1", topic
    )
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        ends = await consumer.end_offsets(tps)
    finally:
        await consumer.stop()
    found = {TopicPartition(topic, row["partition"]): row["next_offset"] for row in rows}
    return found == ends and any(ends.values())


async def test_events_trimmed_under_a_paused_projector_are_a_gap(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    topics = await create_topics(kafka, prefix)
    topic, partition = topics.name(TOPIC), partition_of_merchant(MERCHANT)
    env = projector_environment(kafka, prefix, postgres_url, BILLING_SESSION_TIMEOUT="30s")
    await send(kafka, topics, MERCHANT, range(1, 2))

    async with projector(env, folder) as process:
        await until(partial(has, postgres_url, MERCHANT, [1]), SECONDS_MAX, "projected")
        process.pause()
        # A request that was waiting at the broker may still be answered with the first of these.
        await asyncio.sleep(1)
        await send(kafka, topics, MERCHANT, range(2, 8))
        await trim(kafka, topic, partition, 6)
        process.resume()
        await until(partial(open_gaps, process, 1), SECONDS_MAX, "the gap is there")
        await until(partial(is_last, postgres_url, 7), SECONDS_MAX, "read on")
    known = await sequences(postgres_url, MERCHANT)
    (gap,) = await fetch(postgres_url, "SELECT * FROM projection_gaps")

    lost = range(gap["from_offset"], gap["to_offset"])
    assert sorted([*known, *(offset + 1 for offset in lost)]) == [1, 2, 3, 4, 5, 6, 7]
    assert gap["kind"] == "trimmed"


async def is_last(url: str, number: int) -> bool:
    return (await sequences(url, MERCHANT))[-1:] == [number]


@pytest.mark.parametrize("records", [2, 9], ids=["shorter", "longer"])
async def test_a_topic_created_again_stops_its_partition_only(
    kafka: str, prefix: str, folder: Path, postgres_url: str, records: int
) -> None:
    topics = await create_topics(kafka, prefix)
    topic, partition = topics.name(TOPIC), partition_of_merchant(MERCHANT)
    env = projector_environment(kafka, prefix, postgres_url)
    await send(kafka, topics, MERCHANT, range(1, 6))
    await project_once(env, folder, MERCHANT, 5)
    await recreate(kafka, topics, topic)
    await send(kafka, topics, MERCHANT, range(11, 11 + records))

    async with projector(env, folder) as process:
        await until(partial(open_gaps, process, 1), SECONDS_MAX, "it is named")
        status, ready = await readiness(process)
        await send(kafka, topics, OTHER, range(1, 3))
        await until(partial(has, postgres_url, OTHER, [1, 2]), SECONDS_MAX, "the other one")
        held = await sequences(postgres_url, MERCHANT)
        code, output = await run(env, "projector", "accept", "--all", "--because", "INC-8")
        wanted = [1, 2, 3, 4, 5, *range(11, 11 + records)]
        await until(partial(has, postgres_url, MERCHANT, wanted), SECONDS_MAX, "read again")
        await until(partial(is_ready, process), SECONDS_MAX, "ready")
        log = process.tail()

    assert status == 503
    assert f"{topic}[{partition}] offsets" in ready["problems"][0]
    assert "this partition is stopped" in ready["problems"][0]
    assert "projector rebuild" in log
    assert held == [1, 2, 3, 4, 5]
    assert code == 0, output


async def is_ready(process: ProjectorProcess) -> bool:
    return (await readiness(process))[0] == 200


async def test_a_topic_created_again_under_it_stops_its_partition(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    topics = await create_topics(kafka, prefix)
    env = projector_environment(kafka, prefix, postgres_url)
    await send(kafka, topics, MERCHANT, range(1, 6))

    async with projector(env, folder) as process:
        await until(partial(has, postgres_url, MERCHANT, [1, 2, 3, 4, 5]), SECONDS_MAX, "there")
        await recreate(kafka, topics, topics.name(TOPIC))
        await send(kafka, topics, MERCHANT, range(11, 13))
        await until(partial(open_gaps, process, 1), SECONDS_MAX, "it is named")
        await send(kafka, topics, OTHER, range(1, 2))
        await until(partial(has, postgres_url, OTHER, [1]), SECONDS_MAX, "the other one")
        held = await sequences(postgres_url, MERCHANT)

    assert held == [1, 2, 3, 4, 5]


async def test_a_position_beyond_the_end_stops_its_partition_only(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    topics = await create_topics(kafka, prefix)
    await migrate(postgres_url)
    changelog = topics.changelog(names.BILLING_RECORDS)
    connection_rows = "INSERT INTO projection_positions VALUES ($1, 0, 99) RETURNING topic"
    await fetch(postgres_url, connection_rows, changelog)
    await send(kafka, topics, OTHER, range(1, 3))

    async with projector(projector_environment(kafka, prefix, postgres_url), folder) as process:
        await until(partial(has, postgres_url, OTHER, [1, 2]), SECONDS_MAX, "all else")
        await until(partial(open_gaps, process, 1), SECONDS_MAX, "it is named")
        status, ready = await readiness(process)

    assert status == 503
    assert f"{changelog}[0] offsets 0 to 98" in ready["problems"][0]


async def test_a_rebuild_of_a_trimmed_log_needs_a_reason(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    topics = await create_topics(kafka, prefix)
    env = projector_environment(kafka, prefix, postgres_url)
    await send(kafka, topics, MERCHANT, range(1, 6))
    await project_once(env, folder, MERCHANT, 5)
    await trim(kafka, topics.name(TOPIC), partition_of_merchant(MERCHANT), 3)

    refused = await run(env, "projector", "rebuild")
    kept = await sequences(postgres_url, MERCHANT)
    done = await run(env, "projector", "rebuild", "--because", "INC-9")
    after = await sequences(postgres_url, MERCHANT)
    gaps = await fetch(postgres_url, "SELECT * FROM projection_gaps")

    assert refused[0] == 2, refused[1]
    assert "offsets 0 to 2 were deleted" in refused[1]
    assert kept == [1, 2, 3, 4, 5]
    assert done[0] == 0, done[1]
    assert after == [4, 5]
    assert [gap["accepted_reason"] for gap in gaps] == ["INC-9"]
