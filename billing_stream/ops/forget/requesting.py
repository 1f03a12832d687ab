"""The command goes to `billing.commands.v1`; its outcome is read from the log."""

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from aiokafka import TopicPartition
from msgspec import Struct

from billing_stream.domain.outcomes import MerchantForgotten
from billing_stream.engine.partitioner import partition_of
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.ops import command_log
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.topics import Topics


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
    """Ask for it, and wait for the outcome.

    `options` are those of an aiokafka client. After `seconds_max` the outcome is WAITING: the
    command stays in its topic, and a worker carries it out. Raises aiokafka's errors.
    """
    merchant_id = merchant_id.lower()
    partition = partition_of(merchant_id, partitions)
    watch = _Watch(topics, partition)
    async with command_log.from_here(options, watch.read, deadline) as consumer:
        command = {"command": "forget_merchant", "merchant_id": merchant_id}
        watch.at = await command_log.send_command(
            options, watch.commands, merchant_id, command, deadline
        )
        try:
            async with asyncio.timeout(seconds_max):
                return await watch.outcome(consumer, options)
        except TimeoutError:
            return ForgetResult(ForgetOutcome.WAITING, watch.ref)


class _Watch:
    """What shows the outcome: an event, a dead letter, or that the lane has continued."""

    def __init__(self, topics: Topics, partition: int) -> None:
        kind = names.event_type(MerchantForgotten.kind)
        self.commands = TopicPartition(topics.name(names.COMMANDS), partition)
        self.events = TopicPartition(topics.name(kind), partition)
        self.letters = TopicPartition(topics.name(names.DEAD_LETTERS), partition)
        self.rows = TopicPartition(topics.changelog(names.BILLING_RECORDS), partition)
        self.read = [self.events, self.letters, self.rows]
        self.at = RecordRef(self.commands.topic, partition, -1)

    @property
    def ref(self) -> str:
        """Where the command is."""
        return str(self.at)

    async def outcome(self, consumer: Any, options: Mapping[str, Any]) -> ForgetResult:
        """The outcome, when it is committed."""
        ends: Mapping[TopicPartition, int] | None = None
        while True:
            found = await consumer.getmany(*self.read, timeout_ms=command_log.POLL_MS)
            for record in found.get(self.events, ()):
                if ("cause", self.ref.encode()) in record.headers:
                    return ForgetResult(ForgetOutcome.FORGOTTEN, self.ref)
            why = command_log.rejection(found.get(self.letters, ()), self.at)
            if why is not None:
                return ForgetResult(ForgetOutcome.REFUSED, self.ref, why)
            if ends is None and command_log.has_passed(found.get(self.rows, ()), self.at):
                ends = await command_log.ends(options, self.read)
            if ends is not None and await command_log.has_reached(consumer, ends):
                # Carried out, and nothing came of it.
                return ForgetResult(ForgetOutcome.BEFORE, self.ref)
