"""Topics read to their ends, without a group, committed records only."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from aiokafka import TopicPartition

from billing_stream.errors import DeadLettersError
from billing_stream.kafka.committed_log import CommittedLog, Progress
from billing_stream.kafka.open_transactions import ReadStalled
from billing_stream.ops.dead_letters.desk_connection import Cluster

NOWHERE: Mapping[int, int] = MappingProxyType({})


async def read(
    cluster: Cluster,
    topic: str,
    *,
    partitions: Iterable[int] | None = None,
    whole: bool = False,
    since: Mapping[int, int] = NOWHERE,
    progress: Progress | None = None,
) -> AsyncGenerator[list[Any], None]:
    """All records of a topic, partition by partition in batches, up to its end at this moment.

    `since` are offsets by partition before which nothing is read. What a transaction that is open
    now writes is left out, or with `whole` waited for. Raises DeadLettersError when the topic does
    not exist or sends nothing any more.
    """
    async with CommittedLog(cluster.options) as log:
        tps = _partitions(log, cluster, topic, partitions)
        begins, ends = await log.begins(tps), await log.ends(tps, with_open=whole)
        starts = {
            tp: max(begin, min(since.get(tp.partition, begin), ends[tp]))
            for tp, begin in begins.items()
        }
        try:
            async for batch in log.read(starts, ends, progress=progress):
                yield batch
        except ReadStalled as error:
            raise DeadLettersError(str(error)) from None


async def read_one(cluster: Cluster, topic: str, partition: int, offset: int) -> Any | None:
    """The record of a reference, or None when it does not exist (any more)."""
    async with CommittedLog(cluster.options) as log:
        (tp,) = _partitions(log, cluster, topic, [partition])
        begin = (await log.begins([tp]))[tp]
        end = (await log.ends([tp], with_open=False))[tp]
        if not begin <= offset < end:
            return None
        # Where a record was aborted, or compacted away, there is none.
        async for records in log.read({tp: offset}, {tp: offset + 1}):
            for record in records:
                return record
    return None


def _partitions(
    log: CommittedLog, cluster: Cluster, topic: str, partitions: Iterable[int] | None
) -> list[TopicPartition]:
    if not log.partitions(topic):
        raise DeadLettersError(
            f"topic {topic} is not there; missing topics are made by: billing-stream topics create"
        )
    wanted = range(cluster.partitions) if partitions is None else list(partitions)
    outside = [number for number in wanted if not 0 <= number < cluster.partitions]
    if outside:
        raise DeadLettersError(f"topic {topic} has {cluster.partitions} partitions, from 0 on")
    return [TopicPartition(topic, number) for number in wanted]
