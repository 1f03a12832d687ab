"""How far each input is processed, and which are stopped, as the changelog says it."""

from collections.abc import Mapping
from contextlib import aclosing
from math import inf
from typing import Any

import msgspec
from aiokafka import TopicPartition
from msgspec import Struct
from msgspec.structs import replace

from billing_stream.engine.input_logs import Changed, judge
from billing_stream.engine.input_names import input_name, input_of, lane_of
from billing_stream.engine.input_rows import InputRows, StoppedInput
from billing_stream.kafka.added_partitions import added, partition_counts
from billing_stream.kafka.committed_log import CommittedLog, Progress
from billing_stream.kafka.consumers import asking, consuming
from billing_stream.kafka.topic_logs import changelog_ids, look_at_logs
from billing_stream.ops import command_log
from billing_stream.ops.dead_letters.dead_letter_reader import read
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.records import topics as names
from billing_stream.records.operator_commands import AcceptTopic, OperatorCommand
from billing_stream.records.topics import Topics


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
    rows = await input_rows(cluster, progress)
    counts = await partition_counts(cluster.options, cluster.topics)
    inputs = [
        TopicPartition(topic, partition)
        for topic in cluster.topics.inputs()
        for partition in range(max(cluster.partitions, counts.get(topic, 0)))
    ]
    ends = await command_log.ends(cluster.options, inputs)
    found = []
    for tp in inputs:
        lane = lane_of(tp.partition, cluster.partitions)
        of, name = rows[lane], input_name(tp.topic, tp.partition, lane)
        stop, position = of.stopped.get(name), of.positions.get(name, 0)
        following = None
        if stop is not None and not stop.changed:
            following = await _next_offset(cluster, tp, position)
        found.append(InputState(tp.topic, tp.partition, position, ends[tp], stop, following))
    accepted = {input_of(name, lane) for lane, of in enumerate(rows) for name in of.accepted}
    return InputStates(
        found, [tp for tp in added(counts, cluster.partitions) if tp not in accepted]
    )


async def input_rows(cluster: Cluster, progress: Progress | None = None) -> list[InputRows]:
    """What the changelog says of the inputs of each partition, from 0 on.

    Raises DeadLettersError when it cannot be read.
    """
    found = [InputRows() for _ in range(cluster.partitions)]
    changelog = cluster.topics.changelog(names.BILLING_RECORDS)
    async for records in read(cluster, changelog, whole=True, progress=progress):
        for record in records:
            found[record.partition].take(record.key or b"", record.value)
    return found


async def changed_inputs(
    options: Mapping[str, Any], rows: Mapping[int, InputRows]
) -> dict[TopicPartition, str]:
    """Why inputs are, or would be, stopped because their topics changed.

    `rows` are those of each partition. Inputs without a position, or with a log that cannot be
    looked at, are left out. Raises KafkaError.
    """
    found = {
        TopicPartition(*input_of(name, lane)): stop.reason
        for lane, inputs in rows.items()
        for name, stop in inputs.stopped.items()
        if stop.changed
    }
    read = {
        tp: (inputs.positions[name], inputs.marks.get(name))
        for lane, inputs in rows.items()
        for name in inputs.positions
        if (tp := TopicPartition(*input_of(name, lane))) not in found
    }
    marks = {tp: mark for tp, (_, mark) in read.items()}
    if not marks:
        return found
    async with consuming(options) as consumer:
        logs, _ = await look_at_logs(consumer, marks)
    for tp, log in logs.items():
        verdict = judge(*read[tp], log)
        if isinstance(verdict, Changed):
            found[tp] = verdict.reason
    return found


async def changed_changelogs(
    options: Mapping[str, Any], changelogs: Mapping[str, str], rows: Mapping[int, InputRows]
) -> list[str]:
    """Tables with a changelog that is another topic than the one that workers restored.

    None where all are: they were copied together. `changelogs` are the topics by table. Raises
    KafkaError.
    """
    async with asking(options) as client:
        now = await changelog_ids(client, changelogs)
    found: set[str] = set()
    for inputs in rows.values():
        before = inputs.changelogs.tables if inputs.changelogs is not None else {}
        other = {t for t, id in before.items() if now.tables.get(t, id) != id}
        if len(other) < len(before):
            found |= other
    return sorted(found)


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


_command = msgspec.json.Decoder(OperatorCommand)


async def accepted_partitions(options: Mapping[str, Any], topics: Topics) -> set[tuple[str, int]]:
    """Topics and partitions of all `accept_topic` commands. Raises KafkaError.

    That topic is short, while the changelog, in which lanes keep the same, has all merchants.
    """
    topic, found = topics.name(names.OPERATOR_COMMANDS), set()
    async with CommittedLog(options) as log:
        tps = log.partitions(topic)
        begins, ends = await log.begins(tps), await log.ends(tps, with_open=False)
        async for records in log.read(begins, ends, seconds_max=inf):
            for record in records:
                try:
                    command = _command.decode(record.value or b"")
                except msgspec.DecodeError:
                    continue
                if isinstance(command, AcceptTopic):
                    found.add((command.topic, command.partition))
    return found
