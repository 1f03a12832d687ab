"""Where the recorded log is read from: a Kafka cluster, and nothing is ever written to it."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, Self

from aiokafka import TopicPartition

from billing_stream.errors import BillingError
from billing_stream.kafka.committed_log import CommittedLog
from billing_stream.kafka.open_transactions import ReadStalled
from billing_stream.records.schemas import InputRecord

Progress = Callable[[str, int, int], None]
"""Called with the activity, how much is done, and of how much."""


class ReplayError(BillingError):
    """The recorded input cannot be read, or not be decided again; says why and what to do."""


class Source(Protocol):
    """A log."""

    def read(self, topics: Sequence[str], partition: int) -> AsyncIterator[Sequence[InputRecord]]:
        """The committed records of these topics' partition up to their ends at this moment.

        Each call continues where the last one stopped. Transactions that were open at this moment
        are waited for. Raises ReplayError when a topic cannot be read from its first record.
        """


class KafkaSource:
    """A cluster, read without a group and with `read_committed`. An async context manager."""

    def __init__(self, options: Mapping[str, Any], progress: Progress | None = None) -> None:
        self.log = CommittedLog(options)
        self._progress = progress
        self._reached: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Self:
        await self.log.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.log.__aexit__()

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 when it is not there."""
        return len(self.log.partitions(topic))

    async def read(
        self, topics: Sequence[str], partition: int
    ) -> AsyncIterator[Sequence[InputRecord]]:
        tps = [TopicPartition(topic, partition) for topic in topics]
        missing = [topic for topic in topics if partition >= self.partitions(topic)]
        if missing:
            raise ReplayError(
                f"{missing[0]}[{partition}] is not there; BILLING_TOPIC_PREFIX and "
                "KAFKA_BOOTSTRAP_SERVERS say where it is looked for"
            )
        begins, ends = await self.log.begins(tps), await self.log.ends(tps)
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
            async for records in self.log.read(starts, ends, progress=progress):
                yield records
        except ReadStalled as error:
            raise ReplayError(str(error)) from None
