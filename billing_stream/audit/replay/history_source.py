"""Where the recorded log is read from: a Kafka cluster, and nothing is ever written to it."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, Self

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient

from billing_stream.errors import BillingError
from billing_stream.kafka.connection_diagnostics import answering
from billing_stream.kafka.consumers import KafkaConsumer
from billing_stream.kafka.open_transactions import ReadStalled
from billing_stream.kafka.read_to_end import read_between
from billing_stream.records.schemas import InputRecord

# An open transaction of a worker that died is ended within this time by the broker.
STALLED_SECONDS = 60.0
FETCH_BYTES = 4 << 20

Progress = Callable[[str, int, int], None]
"""Told what is done, how many and of how many."""


class ReplayError(BillingError):
    """The recorded input cannot be read, or not be decided again; says why and what to do."""


class Source(Protocol):
    """A log."""

    def read(self, topics: Sequence[str], partition: int) -> AsyncIterator[Sequence[InputRecord]]:
        """The committed records of these topics' partition up to their ends at this moment.

        Each call goes on where the last one stopped. Transactions that were open at this moment
        are waited for. Raises ReplayError when a topic cannot be read from its first record.
        """


class KafkaSource:
    """A cluster, read without a group and with `read_committed`. An async context manager."""

    def __init__(self, options: Mapping[str, Any], progress: Progress | None = None) -> None:
        self.options = options
        self._progress = progress
        self._reached: dict[TopicPartition, int] = {}
        self._consumer: Any = None
        self._watcher: Any = None
        self._known: Any = None

    async def __aenter__(self) -> Self:
        # Asked for all topics, a broker creates none that is missing.
        self.options = await answering(self.options)
        client = AIOKafkaClient(**self.options)
        try:
            await client.bootstrap()
            self._known = await client.fetch_all_metadata()
        finally:
            await client.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        for consumer in (self._consumer, self._watcher):
            if consumer is not None:
                await consumer.stop()

    async def _connect(self) -> None:
        # Only to read: a consumer that is stopped as soon as it was started does not like it.
        common = {**self.options, "enable_auto_commit": False}
        # Sees the ends with open transactions, which the other one does not.
        watcher = KafkaConsumer(**common)
        await watcher.start()
        self._watcher = watcher
        consumer = KafkaConsumer(
            **common,
            isolation_level="read_committed",
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        await consumer.start()
        self._consumer = consumer

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 when it is not there."""
        return len(self._known.partitions_for_topic(topic) or ())

    async def read(
        self, topics: Sequence[str], partition: int
    ) -> AsyncIterator[Sequence[InputRecord]]:
        """As `Source.read`."""
        tps = [TopicPartition(topic, partition) for topic in topics]
        missing = [topic for topic in topics if partition >= self.partitions(topic)]
        if missing:
            raise ReplayError(
                f"{missing[0]}[{partition}] is not there; BILLING_TOPIC_PREFIX and "
                "KAFKA_BOOTSTRAP_SERVERS say where it is looked for"
            )
        if self._consumer is None:
            await self._connect()
        begins = await self._watcher.beginning_offsets(tps)
        ends = await self._watcher.end_offsets(tps)
        starts = {tp: self._reached.get(tp, begins[tp]) for tp in tps}
        late = [tp for tp in tps if begins[tp] > 0 and not tp.topic.endswith("-changelog")]
        if late:
            raise ReplayError(
                f"{late[0].topic}[{partition}] has lost its oldest records: without the whole "
                "history nothing can be replayed"
            )
        self._reached.update({tp: max(ends[tp], starts[tp]) for tp in ends})
        progress = partial(self._progress, "read") if self._progress is not None else None
        try:
            async for records in read_between(
                self._consumer, starts, ends, seconds_max=STALLED_SECONDS, progress=progress
            ):
                yield records
        except ReadStalled as error:
            raise ReplayError(str(error)) from None
