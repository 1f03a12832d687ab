"""The logs behind the names of topics: their ids, beginnings and ends, and single records.

A topic that was deleted and created again has another id, a log that was truncated another record
at an offset that was read.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from msgspec import Struct

from billing_stream.kafka.log_requests import Place, SessionFetch, fetch_from, id_text, metadata_of
from billing_stream.kafka.record_batches import BoundedRecords

# Requests for a single record each, at a time.
FETCHES_AT_ONCE = 32


class LogMark(Struct, frozen=True, gc=False):
    """The log that a position is of; stored next to the position, in JSON.

    `cluster` and `topic_id` as Kafka's tools print them. `offset` and `timestamp` (ms since the
    epoch) are those of the last record read, None before the first one.
    """

    cluster: str
    topic_id: str
    offset: int | None = None
    timestamp: int | None = None


class ChangelogIds(Struct, frozen=True):
    """The ids of the cluster, and of each table's changelog, as Kafka's tools print them."""

    cluster: str
    tables: dict[str, str]


class LogName(NamedTuple):
    """What a fetch says of the log it wants. Another leader has another epoch."""

    topic_id: bytes
    leader_epoch: int
    leader: int


class FoundLog(Struct, frozen=True, gc=False):
    """A log as it is: the first offset, and the one after the last record that can be read.

    `mark` is the one it was compared with. `timestamp` is that of the record at the mark's offset,
    None without a record. `newer`, where the record is another one: the first offset with a later
    timestamp than the mark's, else the end.
    """

    cluster: str
    topic_id: str
    begin: int
    end: int
    mark: LogMark | None = None
    timestamp: int | None = None
    newer: int | None = None


class LogNames(NamedTuple):
    """The id of the cluster, and the logs of it that have a leader."""

    cluster: str
    logs: Mapping[TopicPartition, LogName]


async def log_names(client: Any, topics: Iterable[str]) -> LogNames:
    """Ask one broker; topics and partitions that it does not know are left out.

    `client` is a started AIOKafkaClient. Raises KafkaError.
    """
    node = client.get_random_node()
    if node is None:
        raise KafkaError("no broker is known")
    answer = await client.send(node, metadata_of(sorted(topics)))
    found = {}
    for error, topic, topic_id, _, partitions, *_ in answer.topics:
        for wrong, partition, leader, epoch, *_ in partitions if not error else ():
            if not wrong and leader >= 0:
                found[TopicPartition(topic, partition)] = LogName(topic_id, epoch, leader)
    return LogNames(answer.cluster_id or "", found)


decode_ids = msgspec.json.Decoder(ChangelogIds).decode


async def changelog_ids(client: Any, changelogs: Mapping[str, str]) -> ChangelogIds:
    """The ids of the changelogs, by table; those that are missing are left out.

    Raises KafkaError.
    """
    names = await log_names(client, changelogs.values())
    ids = {tp.topic: id_text(name.topic_id) for tp, name in names.logs.items()}
    found = {table: ids[topic] for table, topic in changelogs.items() if topic in ids}
    return ChangelogIds(names.cluster, found)


async def look_at_logs(
    consumer: Any, marks: Mapping[TopicPartition, LogMark | None]
) -> tuple[dict[TopicPartition, FoundLog], LogNames]:
    """These logs, each compared with its mark; those that cannot be looked at now are left out.

    `consumer` is a started KafkaConsumer that reads committed records. Raises KafkaError.
    """
    client, topics = consumer._client, {tp.topic for tp in marks}
    names = await log_names(client, topics)
    tps = [tp for tp in marks if tp in names.logs]
    if not tps:
        return {}, names
    begins = await consumer.beginning_offsets(tps)
    ends = await consumer.end_offsets(tps)
    wanted = {
        tp: mark.offset
        for tp in tps
        if (mark := marks[tp]) is not None and mark.offset is not None and begins[tp] <= mark.offset
    }
    records = await _records(client, wanted, names.logs)
    timestamps = {tp: timestamp for tp, (timestamp, _) in records.items()}
    later = {}
    for tp in tps:
        mark = marks[tp]
        if mark is None or mark.timestamp is None or mark.timestamp < 0:
            continue
        if timestamps.get(tp) != mark.timestamp:
            later[tp] = mark.timestamp + 1
    newer = await consumer.offsets_for_times(later) if later else {}
    # Offsets are asked for by name: they may be those of a log that came in between.
    if await log_names(client, topics) != names:
        return {}, names
    found = {}
    for tp in tps:
        if tp in wanted and tp not in timestamps:
            continue
        first = newer.get(tp)
        found[tp] = FoundLog(
            names.cluster,
            id_text(names.logs[tp].topic_id),
            begins[tp],
            # What was read can be behind an open transaction again, if a broker lost its marker.
            max(ends[tp], records[tp][1] if tp in records else 0),
            marks[tp],
            timestamps.get(tp),
            (first.offset if first is not None else ends[tp]) if tp in later else None,
        )
    return found, names


async def _records(
    client: Any, wanted: Mapping[TopicPartition, int], logs: Mapping[TopicPartition, LogName]
) -> dict[TopicPartition, tuple[int | None, int]]:
    """The timestamps of single records, and the ends of their logs, open transactions included.

    A missing record has no timestamp. Left out are logs that no broker answers for.
    """
    slots = asyncio.Semaphore(FETCHES_AT_ONCE)
    found: dict[TopicPartition, tuple[int | None, int]] = {}

    async def ask(tp: TopicPartition, offset: int) -> None:
        name = logs[tp]
        # A broker gives one batch, however small the limit is.
        place = Place(name.topic_id, tp.partition, name.leader_epoch, offset, 1)
        request = fetch_from(
            SessionFetch([place]), max_wait_ms=0, min_bytes=0, max_bytes=1, isolation_level=0
        )
        async with slots:
            answer = await client.send(name.leader, request)
        for _, partitions, *_ in answer.topics:
            for _, error, end, _, _, _, _, raw, *_ in partitions:
                if error == OffsetOutOfRangeError.errno:
                    found[tp] = None, 0
                elif not error:
                    found[tp] = _timestamp(raw or b"", offset), end

    # Where one fails, nobody can say yet.
    asked = (ask(tp, offset) for tp, offset in wanted.items())
    await asyncio.gather(*asked, return_exceptions=True)
    return found


def _timestamp(raw: bytes, offset: int) -> int | None:
    batches = BoundedRecords(raw)
    while batches.has_next():
        for record in batches.next_batch():
            if record.offset == offset:
                return int(record.timestamp)
    return None
