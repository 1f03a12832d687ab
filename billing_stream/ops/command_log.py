"""A command that is written to a topic, and how the log shows that it was decided."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import TopicPartition

from billing_stream.engine.log import POSITION_PREFIX
from billing_stream.kafka.consumers import consuming, short_producer
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.records.dead_letters import decode_letter
from billing_stream.records.record_ref import RecordRef

POLL_MS = 200


@asynccontextmanager
async def from_here(
    options: Mapping[str, Any], tps: list[TopicPartition], deadline: StartDeadline
) -> AsyncIterator[Any]:
    """A started consumer of the committed records that come from now on."""
    async with consuming(options, deadline=deadline, fetch_max_wait_ms=POLL_MS) as consumer:
        consumer.assign(tps)
        for tp, end in (await consumer.end_offsets(tps)).items():
            consumer.seek(tp, end)
        yield consumer


async def send_command(
    options: Mapping[str, Any], to: TopicPartition, key: str, command: Any, deadline: StartDeadline
) -> RecordRef:
    """Write a command as JSON; where it is. Raises aiokafka's errors and KafkaNotReady."""
    async with short_producer(options, deadline) as producer:
        sent = await producer.send_and_wait(
            to.topic, msgspec.json.encode(command), key=key.encode(), partition=to.partition
        )
        return RecordRef.of(sent)


def rejection(letters: Iterable[Any], ref: RecordRef) -> str | None:
    """The reason of the dead letter of this record, if it is among `letters`."""
    for record in letters:
        letter = decode_letter(record.value)
        if RecordRef.of(letter) == ref:
            return letter.reason
    return None


def has_passed(rows: Iterable[Any], ref: RecordRef) -> bool:
    """Whether, by these records of a changelog, the lane has processed this record."""
    key = POSITION_PREFIX + ref.topic.encode()
    return any(row.key == key and int(row.value or b"0") > ref.offset for row in rows)


async def ends(
    options: Mapping[str, Any], tps: list[TopicPartition]
) -> Mapping[TopicPartition, int]:
    """The ends, with transactions that are committed and not yet marked so.

    A transaction that was seen in one partition has written all that it has to say before them.
    """
    async with consuming(options, committed=False) as watcher:
        found: Mapping[TopicPartition, int] = await watcher.end_offsets(tps)
        return found


async def has_reached(consumer: Any, wanted: Mapping[TopicPartition, int]) -> bool:
    """Whether everything before these offsets was read."""
    for tp, end in wanted.items():
        if await consumer.position(tp) < end:
            return False
    return True
