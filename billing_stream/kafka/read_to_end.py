"""Committed records of partitions, from given offsets up to given ends, without a group."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiokafka import TopicPartition

RECORDS_PER_READ = 10_000
POLL_MS = 100


class ReadStalled(Exception):
    """No record came for too long; the text names where it stands still."""


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
    Raises ReadStalled after `seconds_max` in which no partition got on.
    """
    left = {tp for tp, end in ends.items() if end > starts[tp]}
    total = sum(ends[tp] - starts[tp] for tp in left)
    done = {tp: starts[tp] for tp in left}
    consumer.assign(sorted(left))
    for tp in left:
        consumer.seek(tp, starts[tp])
    last = time.monotonic()
    while left:
        found = await consumer.getmany(*left, timeout_ms=POLL_MS, max_records=RECORDS_PER_READ)
        for tp, records in found.items():
            yield [record for record in records if record.offset < ends[tp]]
        # Positions, not offsets of records: the log may end in control records.
        for tp in list(left):
            position = await consumer.position(tp)
            if position != done[tp]:
                done[tp], last = position, time.monotonic()
            if position >= ends[tp]:
                left.discard(tp)
                consumer.pause(tp)
        if progress is not None:
            progress(sum(min(at, ends[tp]) - starts[tp] for tp, at in done.items()), total)
        if time.monotonic() - last > seconds_max:
            stuck = ", ".join(f"{tp.topic}[{tp.partition}]@{done[tp]}" for tp in sorted(left))
            raise ReadStalled(f"nothing more comes of {stuck}; is a transaction open there?")
