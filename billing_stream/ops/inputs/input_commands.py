"""An operator's command goes to the lane that decides it; the log shows what it decided."""

import asyncio
from typing import Any

from aiokafka import TopicPartition
from msgspec import Struct

from billing_stream.engine.input_names import lane_of
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.ops import command_log
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.records import topics as names
from billing_stream.records.operator_commands import InputCommand, OperatorCommand
from billing_stream.records.record_ref import RecordRef


class Outcome(Struct, frozen=True):
    """What became of a command, and where it is.

    `decided`: False when no lane decided it in time; it stays in its topic. `rejected` is why it
    was not carried out.
    """

    ref: str
    decided: bool = True
    rejected: str | None = None


async def request(
    cluster: Cluster, command: InputCommand, *, seconds_max: float, deadline: StartDeadline
) -> Outcome:
    """Write a command about an input, and wait as `decided` does."""
    partition = lane_of(command.partition, cluster.partitions)
    key = f"{command.topic}[{partition}]"
    return await decided(
        cluster, command, partition, key, seconds_max=seconds_max, deadline=deadline
    )


async def decided(
    cluster: Cluster,
    command: OperatorCommand,
    partition: int,
    key: str,
    *,
    seconds_max: float,
    deadline: StartDeadline,
) -> Outcome:
    """Write a command, and wait until a lane has decided it. Raises aiokafka's errors."""
    topics = cluster.topics
    letters = TopicPartition(cluster.letters, partition)
    rows = TopicPartition(topics.changelog(names.BILLING_RECORDS), partition)
    to = TopicPartition(topics.name(names.OPERATOR_COMMANDS), partition)
    tps = [letters, rows]
    async with command_log.from_here(cluster.options, tps, deadline) as consumer:
        ref = await command_log.send_command(cluster.options, to, key, command, deadline)
        try:
            async with asyncio.timeout(seconds_max):
                rejected = await _rejection(cluster, consumer, letters, rows, ref)
        except TimeoutError:
            return Outcome(str(ref), decided=False)
        return Outcome(str(ref), rejected=rejected)


async def _rejection(
    cluster: Cluster, consumer: Any, letters: TopicPartition, rows: TopicPartition, ref: RecordRef
) -> str | None:
    """Why the command was not carried out, or None, once it was decided."""
    ends = None
    while True:
        found = await consumer.getmany(letters, rows, timeout_ms=command_log.POLL_MS)
        why = command_log.rejection(found.get(letters, ()), ref)
        if why is not None:
            return why
        if ends is None and command_log.has_passed(found.get(rows, ()), ref):
            ends = await command_log.ends(cluster.options, [letters, rows])
        if ends is not None and await command_log.has_reached(consumer, ends):
            return None
