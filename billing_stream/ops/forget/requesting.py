"""The command goes to `billing.commands.v1`; what came of it is read from the log."""

import asyncio
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from msgspec import Struct

from billing_stream.domain.outcomes import MerchantForgotten
from billing_stream.engine.log import POSITION_PREFIX
from billing_stream.engine.partitioner import partition_of
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.topics import Topics

POLL_MS = 200


class ForgetOutcome(StrEnum):
    """What became of the command."""

    FORGOTTEN = "forgotten"
    BEFORE = "forgotten before"
    REFUSED = "refused"
    WAITING = "waiting"


class ForgetResult(Struct, frozen=True):
    """What became of the command, and where it is. `why`, of a refusal, is its dead letter's."""

    fate: ForgetOutcome
    ref: str
    why: str = ""


async def forget(
    options: Mapping[str, Any],
    topics: Topics,
    partitions: int,
    merchant_id: str,
    *,
    seconds_max: float,
    deadline: StartDeadline,
) -> ForgetResult:
    """Ask for it, and wait for what comes of it.

    `options` are those of an aiokafka client. After `seconds_max` the outcome is WAITING: the
    command stays in its topic, and a worker carries it out. Raises aiokafka's errors.
    """
    merchant_id = merchant_id.lower()
    partition = partition_of(merchant_id, partitions)
    watch = _Watch(topics, partition)
    consumer = AIOKafkaConsumer(
        **options,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=POLL_MS,
    )
    await consumer.start()
    try:
        consumer.assign(watch.read)
        for tp, end in (await consumer.end_offsets(watch.read)).items():
            consumer.seek(tp, end)
        watch.offset = await _send(options, watch.commands, merchant_id, deadline)
        try:
            async with asyncio.timeout(seconds_max):
                return await watch.outcome(consumer, options)
        except TimeoutError:
            return ForgetResult(ForgetOutcome.WAITING, watch.ref)
    finally:
        await consumer.stop()


async def _send(
    options: Mapping[str, Any], to: TopicPartition, merchant_id: str, deadline: StartDeadline
) -> int:
    producer = AIOKafkaProducer(**options, acks="all", enable_idempotence=True)
    try:
        await deadline.retry("a producer id", producer.start)
        command = {"command": "forget_merchant", "merchant_id": merchant_id}
        sent = await producer.send_and_wait(
            to.topic,
            msgspec.json.encode(command),
            key=merchant_id.encode(),
            partition=to.partition,
        )
        return int(sent.offset)
    finally:
        await producer.stop()


class _Watch:
    """What tells the outcome: an event, a dead letter, or that the lane has gone on."""

    def __init__(self, topics: Topics, partition: int) -> None:
        kind = names.event_type(MerchantForgotten.kind)
        self.commands = TopicPartition(topics.name(names.COMMANDS), partition)
        self.events = TopicPartition(topics.name(kind), partition)
        self.letters = TopicPartition(topics.name(names.DEAD_LETTERS), partition)
        self.rows = TopicPartition(topics.changelog(names.BILLING_RECORDS), partition)
        self.read = [self.events, self.letters, self.rows]
        self.offset = -1

    @property
    def ref(self) -> str:
        """Where the command is."""
        return str(RecordRef(self.commands.topic, self.commands.partition, self.offset))

    async def outcome(self, consumer: Any, options: Mapping[str, Any]) -> ForgetResult:
        """The outcome, when it is committed."""
        ends: Mapping[TopicPartition, int] | None = None
        while True:
            found = await consumer.getmany(*self.read, timeout_ms=POLL_MS)
            for record in found.get(self.events, ()):
                if ("cause", self.ref.encode()) in record.headers:
                    return ForgetResult(ForgetOutcome.FORGOTTEN, self.ref)
            for record in found.get(self.letters, ()):
                why = self._refusal(record.value)
                if why is not None:
                    return ForgetResult(ForgetOutcome.REFUSED, self.ref, why)
            if ends is None and self._has_passed(found.get(self.rows, ())):
                ends = await _ends(options, self.read)
            if ends is not None and await _reached(consumer, ends):
                # Carried out, and nothing came of it.
                return ForgetResult(ForgetOutcome.BEFORE, self.ref)

    def _refusal(self, value: bytes) -> str | None:
        letter = msgspec.json.decode(value)
        where = (letter["topic"], letter["partition"], letter["offset"])
        return str(letter["reason"]) if where == (*self.commands, self.offset) else None

    def _has_passed(self, rows: Iterable[Any]) -> bool:
        key = POSITION_PREFIX + self.commands.topic.encode()
        return any(row.key == key and int(row.value or b"0") > self.offset for row in rows)


async def _ends(
    options: Mapping[str, Any], tps: list[TopicPartition]
) -> Mapping[TopicPartition, int]:
    # With what is committed and not yet marked so: the transaction wrote all of it at once.
    watcher = AIOKafkaConsumer(**options, enable_auto_commit=False)
    await watcher.start()
    try:
        found: Mapping[TopicPartition, int] = await watcher.end_offsets(tps)
        return found
    finally:
        await watcher.stop()


async def _reached(consumer: Any, ends: Mapping[TopicPartition, int]) -> bool:
    for tp, end in ends.items():
        if await consumer.position(tp) < end:
            return False
    return True
