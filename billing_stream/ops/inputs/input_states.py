"""How far each input is processed, and which are stopped, as the changelog says it."""

from contextlib import aclosing
from typing import Any

from aiokafka import TopicPartition
from msgspec import Struct
from msgspec.structs import replace

from billing_stream.engine.input_names import input_of
from billing_stream.engine.log import ACCEPTED_PREFIX, POSITION_PREFIX, STOPPED_PREFIX
from billing_stream.engine.partition_inputs import StoppedInput, decode_stopped
from billing_stream.kafka.added_partitions import added, partition_counts
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


class InputStates(Struct, frozen=True):
    """All inputs, and the partitions added to any topic that no operator has accepted yet."""

    inputs: list[InputState]
    added: list[TopicPartition]


async def input_states(cluster: Cluster, progress: Progress | None = None) -> InputStates:
    """All inputs, partition by partition. Reads the changelog of merchants, needs no worker.

    Raises DeadLettersError when it cannot be read.
    """
    positions: dict[tuple[str, int], int] = {}
    stopped: dict[tuple[str, int], StoppedInput | None] = {}
    accepted: set[tuple[str, int]] = set()
    changelog = cluster.topics.changelog(names.BILLING_RECORDS)
    async for records in read(cluster, changelog, whole=True, progress=progress):
        for record in records:
            key, value = record.key or b"", record.value
            if key.startswith(POSITION_PREFIX):
                positions[_input(key, POSITION_PREFIX, record)] = int(value or 0)
            elif key.startswith(STOPPED_PREFIX):
                stop = decode_stopped(value) if value else None
                stopped[_input(key, STOPPED_PREFIX, record)] = stop
            elif key.startswith(ACCEPTED_PREFIX):
                accepted.add(_input(key, ACCEPTED_PREFIX, record))
    counts = await partition_counts(cluster.options, cluster.topics)
    inputs = [
        TopicPartition(topic, partition)
        for topic in cluster.topics.inputs()
        for partition in range(max(cluster.partitions, counts.get(topic, 0)))
    ]
    ends = await command_log.ends(cluster.options, inputs)
    found = []
    for tp in inputs:
        stop, position = stopped.get(tp), positions.get(tp, 0)
        following = None if stop is None else await _next_offset(cluster, tp, position)
        found.append(InputState(tp.topic, tp.partition, position, ends[tp], stop, following))
    return InputStates(
        found, [tp for tp in added(counts, cluster.partitions) if tp not in accepted]
    )


def _input(key: bytes, prefix: bytes, record: Any) -> tuple[str, int]:
    return input_of(key.removeprefix(prefix).decode(), record.partition)


async def _next_offset(cluster: Cluster, tp: TopicPartition, position: int) -> int | None:
    since = {tp.partition: position}
    # It may be one that was added.
    cluster = replace(cluster, partitions=max(cluster.partitions, tp.partition + 1))
    found: Any = read(cluster, tp.topic, partitions=[tp.partition], since=since)
    async with aclosing(found) as batches:
        async for records in batches:
            if records:
                return int(records[0].offset)
    return None
