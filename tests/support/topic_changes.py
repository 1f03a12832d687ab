"""What happens to topics behind the back of their readers: trimmed, deleted, created again."""

import asyncio

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tests.support.worker import create_topics

SECONDS_MAX = 30.0


async def trim(kafka: str, topic: str, partition: int, before: int) -> None:
    """Delete the records before this offset; all of them with -1."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before)})
    finally:
        await admin.close()


async def recreate(env: dict[str, str], *topics: str) -> None:
    """Delete topics of this environment and create them again, empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"])
    await admin.start()
    try:
        await admin.delete_topics(list(topics))
        async with asyncio.timeout(SECONDS_MAX):
            while set(topics) & set(await admin.list_topics()):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
    await create_topics(env)
