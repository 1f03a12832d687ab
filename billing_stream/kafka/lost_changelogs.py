"""A changelog that is gone must not be created again: empty, it says that nothing has happened."""

from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition

from billing_stream.errors import TopicsError
from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.consumers import asking, consuming
from billing_stream.records import topics as names
from billing_stream.records.topics import Role, Topics

# Those that every version had. Others may be missing because a new version brings them.
_ALWAYS_THERE = (names.BILLING_RECORDS, names.CREDIT_PURCHASES)
_WHAT_TO_DO = (
    "With an empty one workers would begin from nothing, and carry out all inputs again:\n"
    "leave them stopped, and see "
    "`billing-stream docs restore`. To begin with nothing on purpose, take another "
    "BILLING_TOPIC_PREFIX, or delete all topics"
)
_WRITTEN_BY_LANES = (Role.EVENT, Role.JOURNAL, Role.DEAD_LETTER)


async def require_no_lost_changelog(options: Mapping[str, Any], topics: Topics) -> None:
    """Raise TopicsError when a changelog is missing, or empty, where lanes have written before.

    Workers would begin from nothing: no credits, and every input carried out again.
    """
    options = await answering(options)
    async with asking(options) as client:
        existing = await client.fetch_all_metadata()
    there = existing.topics()
    lost = [name for name in map(topics.changelog, _ALWAYS_THERE) if name not in there]
    written = [
        TopicPartition(topic.name, partition)
        for topic in topics.all()
        if topic.role in _WRITTEN_BY_LANES
        for partition in existing.partitions_for_topic(topic.name) or ()
    ]
    rows = topics.changelog(names.BILLING_RECORDS)
    if not written:
        return
    async with consuming(options, committed=False) as consumer:
        ends = await consumer.end_offsets(written)
        # Each transaction of a lane writes there, if only its position.
        marks = [TopicPartition(rows, p) for p in existing.partitions_for_topic(rows) or ()]
        marked = await consumer.end_offsets(marks)
    with_records = sorted({tp.topic for tp, end in ends.items() if end > 0})
    if lost and with_records:
        raise TopicsError(
            f"{' and '.join(lost)} is not there, and {with_records[0]} has records: it was lost.\n"
            f"Nothing was created. {_WHAT_TO_DO}"
        )
    emptied = [tp for tp, end in ends.items() if end > 0 and marked.get((rows, tp.partition)) == 0]
    if emptied:
        raise TopicsError(
            f"{rows}[{emptied[0].partition}] is empty, and {emptied[0].topic}"
            f"[{emptied[0].partition}] has records: it was deleted and created again.\n"
            f"{_WHAT_TO_DO}"
        )
