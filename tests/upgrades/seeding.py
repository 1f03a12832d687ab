"""A stored log on a real broker, as if the release that made it had just been stopped."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from msgspec.structs import replace as altered

from billing_stream.kafka import topic_admin
from billing_stream.records.topics import Topics
from tests.upgrades.scenario import PARTITIONS, PREFIX, Record

TIME = "message.timestamp.type"


async def seed(kafka: str, prefix: str, log: Sequence[Record]) -> Topics:
    """Make the topics, and write the log into them with the times that its inputs had."""
    topics = Topics("billing-stream", prefix)
    options = {"bootstrap_servers": kafka}
    wanted = topics.all()
    # The times of the inputs, which the broker would set, are a part of what was decided.
    timed = [altered(topic, config={**topic.config, TIME: "CreateTime"}) for topic in wanted]
    await topic_admin.create_topics(options, timed, partitions=PARTITIONS, replication=1)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, enable_idempotence=True)
    await producer.start()
    try:
        for record in log:
            here = renamed(record, prefix)
            await producer.send_and_wait(
                here.topic,
                here.value,
                key=here.key,
                partition=here.partition,
                timestamp_ms=here.timestamp,
                headers=list(here.headers),
            )
    finally:
        await producer.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        resources = [
            ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=topic.config)
            for topic in wanted
            if TIME in topic.config
        ]
        await admin.alter_configs(resources)
    finally:
        await admin.close()
    # The broker learns of a change after the controller has taken it.
    async with asyncio.timeout(60):
        while (
            await topic_admin.check_topics(options, wanted, partitions=PARTITIONS, replication=1)
        ).wrong:
            continue
    return topics


def renamed(record: Record, prefix: str) -> Record:
    """The record under another prefix: topics are named in keys, values and headers."""

    def here(data: bytes | None) -> bytes | None:
        return None if data is None else data.replace(PREFIX.encode(), prefix.encode())

    return replace(
        record,
        topic=record.topic.replace(PREFIX, prefix),
        key=here(record.key),
        value=here(record.value),
        headers=[(name, here(value) or b"") for name, value in record.headers],
    )
