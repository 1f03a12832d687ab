"""Committed records of partitions, from given offsets up to given ends, without a group."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiokafka import TopicPartition

from billing_stream.kafka.open_transactions import Stalls

RECORDS_PER_READ = 10_000
POLL_MS = 100


async def read_between(
    consumer: Any,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    *,
    seconds_max: float,
    progress: Callable[[int, int], None] | None = None,
) -> AsyncIterator[list[Any]]:
    """Records of one partition at a time, each partition in its order.

    `consumer` reads what is committed and is assigned these partitions. Ends that count open
    transactions are waited for. `progress` is told how many offsets are read, and of how many.
    Raises ReadStalled after `seconds_max` in which no partition got on; behind an open transaction,
    which is logged, when it is open for longer than brokers allow.
    """
    left = {tp for tp, end in ends.items() if end > starts[tp]}
    total = sum(ends[tp] - starts[tp] for tp in left)
    done = {tp: starts[tp] for tp in left}
    consumer.assign(sorted(left))
    for tp in left:
        consumer.seek(tp, starts[tp])
    stalls = Stalls(seconds_max)
    while left:
        found = await consumer.getmany(*left, timeout_ms=POLL_MS, max_records=RECORDS_PER_READ)
        for tp, records in found.items():
            yield [record for record in records if record.offset < ends[tp]]
        # Positions, not offsets of records: the log may end in control records.
        for tp in list(left):
            position = await consumer.position(tp)
            if position != done[tp]:
                done[tp] = position
                stalls.moved()
            if position >= ends[tp]:
                left.discard(tp)
                consumer.pause(tp)
        if progress is not None:
            progress(sum(min(at, ends[tp]) - starts[tp] for tp, at in done.items()), total)
        stalls.look(consumer, left, done, ends)
