"""How far each input is processed, and which are stopped, as the changelog says it."""

from contextlib import aclosing
from typing import Any

from aiokafka import TopicPartition
from msgspec import Struct

from billing_stream.engine.log import POSITION_PREFIX, STOPPED_PREFIX
from billing_stream.engine.partition_inputs import StoppedInput, decode_stopped
from billing_stream.ops import command_log
from billing_stream.ops.dead_letters.dead_letter_reader import Progress, read
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.records import topics as names


class InputState(Struct, frozen=True):
    """An input topic's partition. `position` is the offset to be processed next, `end` the end.

    `next_offset`, of a stopped input, is that of its next record, None at the end.
    """

    topic: str
    partition: int
    position: int
    end: int
    stopped: StoppedInput | None = None
    next_offset: int | None = None

    @property
    def name(self) -> str:
        """`topic[partition]`."""
        return f"{self.topic}[{self.partition}]"


async def input_states(cluster: Cluster, progress: Progress | None = None) -> list[InputState]:
    """All inputs, partition by partition. Reads the changelog of merchants, needs no worker.

    Raises DeadLettersError when it cannot be read.
    """
    positions: dict[tuple[str, int], int] = {}
    stopped: dict[tuple[str, int], StoppedInput | None] = {}
    changelog = cluster.topics.changelog(names.BILLING_RECORDS)
    async for records in read(cluster, changelog, whole=True, progress=progress):
        for record in records:
            key, value = record.key or b"", record.value
            if key.startswith(POSITION_PREFIX):
                topic = key.removeprefix(POSITION_PREFIX).decode()
                positions[topic, record.partition] = int(value or 0)
            elif key.startswith(STOPPED_PREFIX):
                topic = key.removeprefix(STOPPED_PREFIX).decode()
                stopped[topic, record.partition] = decode_stopped(value) if value else None
    inputs = [
        TopicPartition(topic, partition)
        for topic in cluster.topics.inputs()
        for partition in range(cluster.partitions)
    ]
    ends = await command_log.ends(cluster.options, inputs)
    found = []
    for tp in inputs:
        stop, position = stopped.get(tp), positions.get(tp, 0)
        following = None if stop is None else await _next_offset(cluster, tp, position)
        found.append(InputState(tp.topic, tp.partition, position, ends[tp], stop, following))
    return found


async def _next_offset(cluster: Cluster, tp: TopicPartition, position: int) -> int | None:
    since = {tp.partition: position}
    found: Any = read(cluster, tp.topic, partitions=[tp.partition], since=since)
    async with aclosing(found) as batches:
        async for records in batches:
            if records:
                return int(records[0].offset)
    return None
