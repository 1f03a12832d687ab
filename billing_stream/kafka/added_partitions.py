"""Partitions that were added to topics after these were created; Kafka cannot remove them.

Rows stay where they are: BILLING_PARTITIONS is the number of lanes, whatever is added. Lanes read
added partitions of inputs and forward their records (`engine.input_names`). Added partitions of
other topics stay empty.
"""

from collections.abc import Iterable, Mapping
from contextlib import aclosing
from math import inf
from typing import Any

from aiokafka import TopicPartition

from billing_stream.errors import TopicsError
from billing_stream.kafka.committed_log import CommittedLog
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics

NAMED_MAX = 3


async def partition_counts(options: Mapping[str, Any], topics: Topics) -> dict[str, int]:
    """How many partitions each of the app's topics has that is there. Raises KafkaError."""
    async with CommittedLog(options) as log:
        counts = {topic.name: len(log.partitions(topic.name)) for topic in topics.all()}
    return {name: count for name, count in counts.items() if count}


def added(counts: Mapping[str, int], partitions: int) -> list[TopicPartition]:
    """The partitions of these topics beyond the first `partitions`, topic by topic."""
    return [
        TopicPartition(topic, number)
        for topic, count in sorted(counts.items())
        for number in range(partitions, count)
    ]


async def require_lanes(
    options: Mapping[str, Any], topics: Topics, counts: Mapping[str, int], partitions: int
) -> None:
    """Raise TopicsError unless the rows are those of `partitions` lanes, whatever was added.

    With another number of lanes merchants would be looked for where their rows are not.
    """
    rows = topics.changelog(names.BILLING_RECORDS)
    count = counts.get(rows, 0)
    if count <= partitions:
        return
    used = 0
    async with CommittedLog(options) as log:
        ends = await log.ends([TopicPartition(rows, n) for n in range(count)], with_open=False)
        for tp, end in sorted(ends.items()):
            if end > 0 and (tp.partition < partitions or await _has_records(log, tp, end)):
                used = tp.partition + 1
    if used != partitions:
        why = f"{used} are in use" if used else "none is in use yet"
        raise TopicsError(
            f"{rows} has {count} partitions ({why}), and BILLING_PARTITIONS says {partitions}.\n"
            "BILLING_PARTITIONS must be the number with which the topics were created"
        )


async def _has_records(log: CommittedLog, tp: TopicPartition, end: int) -> bool:
    """Whether it has more than markers: a worker that is refused fenced it, and leaves these."""
    found: Any = log.read(await log.begins([tp]), {tp: end}, seconds_max=inf)
    async with aclosing(found) as batches:
        async for records in batches:
            if records:
                return True
    return False


def listed(found: Iterable[TopicPartition]) -> str:
    """Partitions as text, the first of them by name."""
    all_of_them = [f"{tp.topic}[{tp.partition}]" for tp in found]
    more = f" and {len(all_of_them) - NAMED_MAX} more" if len(all_of_them) > NAMED_MAX else ""
    return ", ".join(all_of_them[:NAMED_MAX]) + more
