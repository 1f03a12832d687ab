"""Where records are read from: a Kafka cluster, and nothing is ever written to it."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient

from billing_stream.audit.verify.log_records import Record
from billing_stream.errors import BillingError
from billing_stream.kafka.consumers import KafkaConsumer
from billing_stream.kafka.open_transactions import ReadStalled, Stalls

# An open transaction of a worker that died ends within the broker's time limit of a minute.
STALLED_SECONDS = 120.0

Progress = Callable[[str, int, int], None]
"""Told what is done, how many and of how many."""


class VerifyError(BillingError):
    """What is to be verified could not be read."""


class Source(Protocol):
    """A log. Used for one stage of topics after the other."""

    def read(self, topics: Sequence[str]) -> AsyncIterator[Sequence[Record]]:
        """All committed records of these topics up to their ends at this moment.

        The order within a partition is that of the log. Transactions that were open at this
        moment are waited for. Raises VerifyError when a topic cannot be read.
        """

    def begins_late(self) -> Sequence[tuple[str, int]]:
        """Topics and partitions, of those read, whose oldest records are gone."""


class KafkaSource:
    """A cluster, read without a group and with `read_committed`."""

    def __init__(
        self, options: Mapping[str, Any], partitions: int, progress: Progress | None = None
    ) -> None:
        self._options = options
        self._partitions = partitions
        self._progress = progress
        self._late: list[tuple[str, int]] = []
        self._read = 0

    def begins_late(self) -> Sequence[tuple[str, int]]:
        """As `Source.begins_late`."""
        return self._late

    async def read(self, topics: Sequence[str]) -> AsyncIterator[Sequence[Record]]:
        """As `Source.read`."""
        tps = await self._existing(topics)
        # The ends must count open transactions, too: one that is visible in one partition is
        # surely waited for in the others. A `read_committed` consumer does not see them.
        watcher = KafkaConsumer(**self._options, enable_auto_commit=False)
        await watcher.start()
        try:
            begins = await watcher.beginning_offsets(tps)
            ends = await watcher.end_offsets(tps)
        finally:
            await watcher.stop()
        self._late += [(tp.topic, tp.partition) for tp in tps if begins[tp] > 0]
        if all(begins[tp] == ends[tp] for tp in tps):
            return
        consumer = KafkaConsumer(
            **self._options,
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )
        await consumer.start()
        try:
            async for batch in self._batches(consumer, begins, ends):
                self._require_lane(batch)
                yield batch
        finally:
            await consumer.stop()

    def _require_lane(self, batch: Sequence[Record]) -> None:
        """Raise VerifyError where records of one partition are rows of a lane that is not there.

        An end says nothing: a worker that is refused leaves markers of transactions.
        """
        for one in batch[:1]:
            if one.partition >= self._partitions and one.topic.endswith("-changelog"):
                raise VerifyError(
                    f"BILLING_PARTITIONS says {self._partitions}, and there are rows in "
                    f"{one.topic}[{one.partition}]"
                )

    async def _existing(self, topics: Sequence[str]) -> list[TopicPartition]:
        # Asked for all topics, a broker creates none that is missing.
        client = AIOKafkaClient(**self._options)
        try:
            await client.bootstrap()
            known = await client.fetch_all_metadata()
        finally:
            await client.close()
        problems, found = [], []
        for topic in topics:
            partitions = known.partitions_for_topic(topic)
            if not partitions:
                problems.append(f"topic {topic} is not there")
            elif len(partitions) < self._partitions:
                problems.append(f"topic {topic} has {len(partitions)} partitions")
            else:
                found += [TopicPartition(topic, partition) for partition in sorted(partitions)]
        if problems:
            wanted = (
                f"BILLING_PARTITIONS says {self._partitions} each; `billing-stream topics check` "
                "says all that is wrong"
            )
            raise VerifyError("; ".join([*problems[:5], wanted]))
        return found

    async def _batches(
        self, consumer: Any, begins: Mapping[Any, int], ends: Mapping[Any, int]
    ) -> AsyncIterator[Sequence[Record]]:
        left = {tp for tp, end in ends.items() if end > begins[tp]}
        total = sum(end - begins[tp] for tp, end in ends.items())
        done = dict(begins)
        consumer.assign(sorted(left))
        for tp in left:
            consumer.seek(tp, begins[tp])
        stalls = Stalls(STALLED_SECONDS)
        while left:
            found = await consumer.getmany(*left, timeout_ms=200, max_records=20_000)
            for tp, records in found.items():
                if records[-1].offset >= ends[tp]:
                    records = [record for record in records if record.offset < ends[tp]]
                yield records
            for tp in list(left):
                position = await consumer.position(tp)
                if position != done[tp]:
                    done[tp] = position
                    stalls.moved()
                if position >= ends[tp]:
                    left.discard(tp)
                    consumer.pause(tp)
            if self._progress is not None:
                read = sum(min(done[tp], end) - begins[tp] for tp, end in ends.items())
                self._progress("read", read, total)
            try:
                stalls.look(consumer, left, done, ends)
            except ReadStalled as error:
                raise VerifyError(str(error)) from None
