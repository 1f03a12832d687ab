"""Whether the logs of the inputs are those that the positions in the changelog are of."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka import TopicPartition

from billing_stream.audit.verify.facts import History
from billing_stream.kafka.consumers import consuming
from billing_stream.kafka.topic_logs import FoundLog, LogMark, look_at_logs


async def find_changed(options: Mapping[str, Any], history: History) -> None:
    """Note in `changed` which inputs lack records or hold other ones. Raises aiokafka's errors."""
    marks = {
        TopicPartition(topic, partition): msgspec.convert(mark, LogMark)
        for (topic, partition), mark in history.marks.items()
    }
    if not marks:
        return
    async with consuming(options) as consumer:
        logs, _ = await look_at_logs(consumer, marks)
    for tp, log in logs.items():
        position = history.position(*tp)
        why = difference(position, marks[tp], log)
        if why is not None:
            history.changed[tp.topic, tp.partition] = why


def difference(position: int, mark: LogMark, log: FoundLog) -> str | None:
    """The fault of a log in which everything before `position` was read, or None."""
    moved = (mark.cluster, mark.topic_id) != (log.cluster, log.topic_id)
    known = mark.offset is not None and mark.offset >= log.begin
    if known and log.timestamp == mark.timestamp:
        return None
    if mark.topic_id != log.topic_id and (known or mark.cluster == log.cluster):
        return (
            f"topic id {mark.topic_id} was read, and this is {log.topic_id} with the offsets "
            f"{log.begin} to {log.end - 1}: the topic was created again or copied with other "
            "offsets"
        )
    if position < log.begin:
        return f"offsets {position} to {log.begin - 1} were deleted before they were read"
    if known or position > log.end:
        last = position - 1 if mark.offset is None else mark.offset
        where = "a copy on another cluster" if moved else "truncated"
        return f"the last record that was read, {last}, is not in the log any more: it is {where}"
    return None
