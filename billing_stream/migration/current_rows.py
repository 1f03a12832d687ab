"""What this service knows: its committed changelogs."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import TopicPartition
from msgspec import Struct, field

from billing_stream.audit.verify.log_source import KafkaSource, Progress
from billing_stream.engine.log import POSITION_PREFIX, RESERVED_PREFIX
from billing_stream.kafka.consumers import consuming
from billing_stream.migration.sending import Ends
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from billing_stream.records.upcasting.versions import upcast

_POLL_MS = 300


class CurrentRows(Struct):
    """The rows of the changelogs, by merchant and by purchase."""

    merchants: dict[str, bytes] = field(default_factory=dict)
    purchases: dict[str, bytes] = field(default_factory=dict)


async def read_locally(
    options: Mapping[str, Any], topics: Topics, partitions: int, progress: Progress | None = None
) -> CurrentRows:
    """All committed rows. Raises VerifyError when a changelog cannot be read, and NewerState."""
    found = CurrentRows()
    tables = {names.BILLING_RECORDS: found.merchants, names.CREDIT_PURCHASES: found.purchases}
    source = KafkaSource(options, partitions, progress)
    for table, rows in tables.items():
        async for records in source.read([topics.changelog(table)]):
            for record in records:
                key = record.key or b""
                if key.startswith(RESERVED_PREFIX):
                    continue
                value = upcast(table, record)
                if value is None:
                    rows.pop(key.decode(), None)
                else:
                    rows[key.decode()] = value
    return found


async def wait_until_read(
    options: Mapping[str, Any],
    topics: Topics,
    ends: Ends,
    seconds_max: float,
    advance: Callable[[int], None],
) -> bool:
    """Wait until workers have committed all commands up to these ends; False: not in time.

    `advance` is called with the commands that are done. Workers write how far they are into the
    changelog of `billing_records`, in the same transaction as what they did.
    """
    wanted = POSITION_PREFIX + topics.name(names.COMMANDS).encode()
    changelog = topics.changelog(names.BILLING_RECORDS)
    tps = [TopicPartition(changelog, partition) for partition in ends]
    left, done = dict(ends), dict.fromkeys(ends, 0)
    async with consuming(options) as consumer:
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        give_up_at = time.monotonic() + seconds_max
        while left and time.monotonic() < give_up_at:
            for tp, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                for record in records:
                    if record.key != wanted or not record.value:
                        continue
                    reached = min(int(record.value), ends[tp.partition])
                    if reached > done[tp.partition]:
                        advance(reached - done[tp.partition])
                        done[tp.partition] = reached
                        give_up_at = time.monotonic() + seconds_max
                    if reached >= ends[tp.partition]:
                        left.pop(tp.partition, None)
        return not left
