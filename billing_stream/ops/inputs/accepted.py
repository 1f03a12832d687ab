"""Which partitions added to topics operators have accepted, as their own topic says it."""

from collections.abc import Mapping
from math import inf
from typing import Any

import msgspec

from billing_stream.kafka.committed_log import CommittedLog
from billing_stream.records import topics as names
from billing_stream.records.operator_commands import AcceptTopic, OperatorCommand
from billing_stream.records.topics import Topics

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
