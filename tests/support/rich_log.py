"""Something of everything that workers write, on a real broker, and a copy to verify against."""

from aiokafka import AIOKafkaProducer

from billing_stream.projector.projected_records import Records
from tests.support.projection import create_topics, fetch
from tests.verify.traffic import rich_world
from tests.verify.world import TOPICS, Copy


async def write_rich_log(kafka: str) -> Copy:
    """Something of everything that workers write, committed; and a copy to verify against.

    Under the names of the copy: the verifier compares where each record is.
    """
    prefix = TOPICS.prefix
    topics = await create_topics(kafka, prefix)
    copy = (await rich_world()).copy()
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{prefix}rich")
    await producer.start()
    try:
        async with producer.transaction():
            for (name, partition), records in copy.logs.items():
                if name in Records(topics).topics:
                    for record in records:
                        await producer.send(
                            name,
                            record.value,
                            key=record.key,
                            partition=partition,
                            headers=list(record.headers),
                        )
    finally:
        await producer.stop()
    return copy


async def projected(database_url: str, copy: Copy) -> bool:
    """Whether the verifier finds no difference between the log and PostgreSQL."""
    if not await fetch(database_url, "SELECT 1 FROM billing_records LIMIT 1"):
        return False
    report = await copy.verify(database_url=database_url)
    return report.checks["projection"].faults == 0 and (report.checks["projection"].counted > 0)
