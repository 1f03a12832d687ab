"""A changelog that was lost is never made anew: workers would begin from nothing."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from billing_stream.kafka.topic_admin import IN_SYNC, config_of
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.worker import create_topics, environment, run


async def delete(kafka: str, topic: str) -> None:
    """Delete a topic, and wait until the broker does not list it any more."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        async with asyncio.timeout(20):
            while topic in await admin.list_topics():  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def settings_of(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    (reply,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((_, _, _, _, entries),) = reply.resources
    return {entry[0]: entry[1] for entry in entries}


async def configure(kafka: str, topic: str, settings: dict[str, str]) -> None:
    """Give a topic these settings only, and wait until the broker has them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=settings)
        await admin.alter_configs([resource])
        async with asyncio.timeout(20):
            while not settings.items() <= (await settings_of(admin, topic)).items():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def write(kafka: str, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"{}", key=b"key", partition=1)
    finally:
        await producer.stop()


async def test_where_events_were_written_a_missing_changelog_is_not_made(
    kafka: str, prefix: str
) -> None:
    env = environment(kafka, prefix)
    topics = Topics("billing-stream", prefix)
    rows = topics.changelog(names.BILLING_RECORDS)
    await create_topics(env)
    await write(kafka, topics.name(names.JOURNAL))
    await delete(kafka, rows)

    code, output = await run(env, "topics", "create")
    checked, wrong = await run(env, "topics", "check")

    assert (code, checked) == (2, 2)
    assert f"{rows} is not there, and {topics.name(names.JOURNAL)} has records" in output
    assert "billing-stream docs restore" in output
    assert "Traceback" not in output
    assert f"{rows}: is missing" in wrong, "it was not made"


async def test_an_empty_changelog_where_events_were_written_starts_no_worker(
    kafka: str, prefix: str
) -> None:
    """As when tooling creates a lost topic again, with the right settings."""
    env = environment(kafka, prefix)
    topics = Topics("billing-stream", prefix)
    await create_topics(env)
    await write(kafka, topics.name(names.JOURNAL))

    started, output = await run(env, "worker")
    created, _ = await run(env, "topics", "create")
    _, checked = await run(env, "doctor")

    empty = f"{topics.changelog(names.BILLING_RECORDS)}[1] is empty, and "
    assert (started, created) == (2, 2)
    assert f"{empty}{topics.name(names.JOURNAL)}[1] has records" in output
    assert "billing-stream docs restore" in output
    assert "Traceback" not in output
    assert empty in checked


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("retention.bytes", "1000000", "is 1000000, must be -1"),
        ("cleanup.policy", "compact", "is compact, must be delete"),
        ("max.message.bytes", "1000", "is 1000, must be at least 1048588"),
        ("message.timestamp.type", "LogAppendTime", "is LogAppendTime, must be CreateTime"),
    ],
)
async def test_settings_that_lose_records_are_named_and_start_no_worker(
    kafka: str, prefix: str, setting: str, value: str, says: str
) -> None:
    env = environment(kafka, prefix)
    journal = Topics("billing-stream", prefix).name(names.JOURNAL)
    await create_topics(env)
    await configure(kafka, journal, {setting: value})

    for command in ("topics check", "topics create", "worker", "doctor"):
        code, output = await run(env, *command.split())
        assert code == (1 if command == "doctor" else 2), command
        assert f"{journal}: {setting} {says}" in output, command


async def test_settings_that_are_not_advised_are_warned_of(kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)
    rows = Topics("billing-stream", prefix).changelog(names.BILLING_RECORDS)
    await create_topics(env)
    changed = {"compression.type": "zstd", "max.message.bytes": "2000000"}
    (topic,) = [one for one in Topics("billing-stream", prefix).all() if one.name == rows]
    await configure(kafka, rows, {**topic.config, **changed})

    code, output = await run(env, "topics", "check")
    _, checked = await run(env, "doctor")

    assert code == 0, output
    assert f"{rows}: compression.type is zstd, should be producer" in output
    assert f"{rows}: compression.type is zstd, should be producer" in checked
    assert "max.message.bytes" not in output


async def test_where_nothing_was_written_yet_it_is_made(kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)
    topics = Topics("billing-stream", prefix)
    await create_topics(env)
    # An input alone says nothing: upstream may have begun before us.
    await write(kafka, topics.name(names.PURCHASE_UPDATED))
    await delete(kafka, topics.changelog(names.BILLING_RECORDS))

    code, output = await run(env, "topics", "create")

    assert code == 0, output
    assert "1 created" in output


async def test_a_table_that_a_new_version_brings_is_made(kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)
    topics = Topics("billing-stream", prefix)
    await create_topics(env)
    await write(kafka, topics.name(names.JOURNAL))
    await write(kafka, topics.changelog(names.BILLING_RECORDS))
    await delete(kafka, topics.changelog(names.CREDIT_ADJUSTMENTS))

    code, output = await run(env, "topics", "create")

    assert code == 0, output


def test_with_three_replicas_two_must_have_a_record() -> None:
    for topic in Topics("billing-stream").all():
        assert IN_SYNC not in topic.config
        assert config_of(topic, 1) == config_of(topic, 2) == topic.config
        assert config_of(topic, 3) == {**topic.config, IN_SYNC: "2"}
