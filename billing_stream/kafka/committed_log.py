"""Committed records of a cluster, from given offsets to given ends, without a group.

Every command that reads topics to their end reads them here; nothing is written.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from typing import Any, Self

from aiokafka import TopicPartition

from billing_stream.kafka.answering_broker import answering
from billing_stream.kafka.consumers import KafkaConsumer, asking, consuming
from billing_stream.kafka.open_transactions import Stalls

RECORDS_PER_READ = 10_000
FETCH_BYTES = 4 << 20
POLL_MS = 100
# An open transaction of a process that died ends within the broker's time limit of a minute.
STALLED_SECONDS = 120.0

Offsets = Mapping[TopicPartition, int]
Progress = Callable[[int, int], None]
"""Called with how many offsets are read, and of how many."""


class CommittedLog:
    """The topics of a cluster as they are committed. An async context manager.

    Entering it raises KafkaConnectionError when no broker answers.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = dict(options)
        self._known: Any = None
        self._consumers: dict[str, KafkaConsumer] = {}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.options = await answering(self.options)
        async with asking(self.options) as client:
            # Asked for all topics, a broker creates none that is missing.
            self._known = await client.fetch_all_metadata()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def partitions(self, topic: str) -> list[TopicPartition]:
        """The partitions of a topic, in order; none when it is not there."""
        numbers = self._known.partitions_for_topic(topic) or ()
        return [TopicPartition(topic, number) for number in sorted(numbers)]

    async def begins(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of the oldest record of each. Raises KafkaError."""
        return await self._offsets("beginning_offsets", "read_committed", tps)

    async def ends(
        self, tps: Collection[TopicPartition], *, with_open: bool = True
    ) -> dict[TopicPartition, int]:
        """The end of each, with the records of transactions that are open. Raises KafkaError.

        Reading to such an end waits for them: all that is visible in one partition is then surely
        there in the others. Without, the end is before the first open one.
        """
        level = "read_uncommitted" if with_open else "read_committed"
        return await self._offsets("end_offsets", level, tps)

    async def read(
        self,
        starts: Offsets,
        ends: Offsets,
        *,
        seconds_max: float = STALLED_SECONDS,
        progress: Progress | None = None,
    ) -> AsyncIterator[list[Any]]:
        """Records of one partition at a time, each partition in its order.

        Ends that count open transactions are waited for. Raises ReadStalled after `seconds_max` in
        which no partition made progress; behind an open transaction, which is logged, when it is
        open for longer than brokers allow.
        """
        left = {tp for tp, end in ends.items() if end > starts[tp]}
        if not left:
            return
        total = sum(ends[tp] - starts[tp] for tp in left)
        done = {tp: starts[tp] for tp in left}
        consumer: Any = await self._consumer("read_committed")
        consumer.assign(sorted(left))
        for tp in left:
            consumer.seek(tp, starts[tp])
        stalls = Stalls(seconds_max)
        while left:
            found = await consumer.getmany(*left, timeout_ms=POLL_MS, max_records=RECORDS_PER_READ)
            for tp, records in found.items():
                if records[-1].offset >= ends[tp]:
                    records = [record for record in records if record.offset < ends[tp]]
                yield records
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

    async def _offsets(
        self, what: str, level: str, tps: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        # Asked about no partition, the client waits for its first.
        if not tps:
            return {}
        return dict(await getattr(await self._consumer(level), what)(list(tps)))

    async def _consumer(self, level: str) -> KafkaConsumer:
        """One consumer of each level, started when it is needed."""
        if level not in self._consumers:
            self._consumers[level] = await self._open.enter_async_context(
                consuming(
                    self.options,
                    committed=level == "read_committed",
                    fetch_max_wait_ms=50,
                    max_partition_fetch_bytes=FETCH_BYTES,
                )
            )
        return self._consumers[level]
