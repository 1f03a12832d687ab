"""Which partitions added to topics operators have accepted, as their own topic says it."""

from collections.abc import Mapping
from math import inf
from typing import Any

import msgspec
from aiokafka import TopicPartition

from billing_stream.kafka.added_partitions import partition_counts
from billing_stream.kafka.connection_diagnostics import answering
from billing_stream.kafka.consumers import KafkaConsumer
from billing_stream.kafka.read_to_end import read_between
from billing_stream.records import topics as names
from billing_stream.records.operator_commands import AcceptTopic, OperatorCommand
from billing_stream.records.topics import Topics

_command = msgspec.json.Decoder(OperatorCommand)


async def accepted_partitions(options: Mapping[str, Any], topics: Topics) -> set[tuple[str, int]]:
    """Topics and partitions of all `accept_topic` commands. Raises KafkaError.

    That topic is short, while the changelog, in which lanes keep the same, has all merchants.
    """
    options, topic = await answering(options), topics.name(names.OPERATOR_COMMANDS)
    count = (await partition_counts(options, topics)).get(topic, 0)
    tps = [TopicPartition(topic, number) for number in range(count)]
    consumer = KafkaConsumer(**options, enable_auto_commit=False, isolation_level="read_committed")
    await consumer.start()
    found = set()
    try:
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        async for records in read_between(consumer, begins, ends, seconds_max=inf):
            for record in records:
                try:
                    command = _command.decode(record.value or b"")
                except msgspec.DecodeError:
                    continue
                if isinstance(command, AcceptTopic):
                    found.add((command.topic, command.partition))
    finally:
        await consumer.stop()
    return found
