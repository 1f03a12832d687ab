"""Topics read to their ends, without a group, and what is committed only."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from aiokafka import TopicPartition
from msgspec.structs import replace

from billing_stream.errors import DeadLettersError
from billing_stream.kafka.connection_diagnostics import answering
from billing_stream.kafka.consumers import KafkaConsumer
from billing_stream.kafka.open_transactions import ReadStalled
from billing_stream.kafka.read_to_end import read_between
from billing_stream.ops.dead_letters.desk_connection import Cluster

Progress = Callable[[int, int], None]
"""Told how many records are read, and of how many."""

FETCH_BYTES = 4 << 20
NOWHERE: Mapping[int, int] = MappingProxyType({})
# An open transaction of a process that died ends within the broker's time limit of a minute.
STALLED_SECONDS = 90.0


async def read(
    cluster: Cluster,
    topic: str,
    *,
    partitions: Iterable[int] | None = None,
    whole: bool = False,
    since: Mapping[int, int] = NOWHERE,
    newest: int | None = None,
    progress: Progress | None = None,
) -> AsyncIterator[list[Any]]:
    """All records of a topic, partition by partition in batches, up to its end at this moment.

    `since` are offsets by partition before which nothing is read; `newest` is of how many
    offsets before the end, at most. What a transaction that is open now writes is left out, or
    with `whole` waited for. Raises
    DeadLettersError when the topic is not there or nothing comes of it any more.
    """
    cluster = replace(cluster, options=await answering(cluster.options))
    consumer = _consumer(cluster)
    try:
        await consumer.start()
        tps = await _partitions(consumer, cluster, topic, partitions)
        begins = await consumer.beginning_offsets(tps)
        ends = await _ends(cluster, tps) if whole else await consumer.end_offsets(tps)
        starts = {
            tp: max(
                begin,
                min(since.get(tp.partition, begin), ends[tp]),
                begin if newest is None else ends[tp] - newest,
            )
            for tp, begin in begins.items()
        }
        async for batch in read_between(
            consumer, starts, ends, seconds_max=STALLED_SECONDS, progress=progress
        ):
            yield batch
    except ReadStalled as error:
        raise DeadLettersError(str(error)) from None
    finally:
        await consumer.stop()


async def read_one(cluster: Cluster, topic: str, partition: int, offset: int) -> Any | None:
    """The record of a reference, or None when there is none (any more)."""
    cluster = replace(cluster, options=await answering(cluster.options))
    consumer = _consumer(cluster)
    try:
        await consumer.start()
        (tp,) = await _partitions(consumer, cluster, topic, [partition])
        begin = (await consumer.beginning_offsets([tp]))[tp]
        if not begin <= offset < (await consumer.end_offsets([tp]))[tp]:
            return None
        consumer.assign([tp])
        consumer.seek(tp, offset)
        # Where a record was aborted, or compacted away, the next one comes.
        while await consumer.position(tp) <= offset:
            found = await consumer.getmany(tp, timeout_ms=500, max_records=1)
            for record in found.get(tp, ()):
                return record if record.offset == offset else None
        return None
    finally:
        await consumer.stop()


def _consumer(cluster: Cluster, isolation: str = "read_committed") -> KafkaConsumer:
    return KafkaConsumer(
        **cluster.options,
        enable_auto_commit=False,
        isolation_level=isolation,
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=FETCH_BYTES,
    )


async def _partitions(
    consumer: Any, cluster: Cluster, topic: str, partitions: Iterable[int] | None
) -> list[TopicPartition]:
    # Asked for all topics, a broker creates none that is missing.
    if topic not in await consumer.topics():
        raise DeadLettersError(
            f"topic {topic} is not there; missing topics are made by: billing-stream topics create"
        )
    wanted = range(cluster.partitions) if partitions is None else list(partitions)
    outside = [number for number in wanted if not 0 <= number < cluster.partitions]
    if outside:
        raise DeadLettersError(f"topic {topic} has {cluster.partitions} partitions, from 0 on")
    return [TopicPartition(topic, number) for number in wanted]


async def _ends(cluster: Cluster, tps: list[TopicPartition]) -> Mapping[TopicPartition, int]:
    """The ends with what is not committed yet, which the other isolation does not see."""
    watcher = _consumer(cluster, "read_uncommitted")
    await watcher.start()
    try:
        ends: Mapping[TopicPartition, int] = await watcher.end_offsets(tps)
        return ends
    finally:
        await watcher.stop()
