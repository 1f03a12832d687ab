"""Where records are read from: a Kafka cluster, and nothing is ever written to it."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from aiokafka import TopicPartition

from billing_stream.audit.verify.log_records import Record
from billing_stream.errors import BillingError
from billing_stream.kafka.committed_log import CommittedLog
from billing_stream.kafka.open_transactions import ReadStalled

Progress = Callable[[str, int, int], None]
"""Called with the activity, how much is done, and of how much."""


class VerifyError(BillingError):
    """The log to be verified could not be read."""


class Source(Protocol):
    """A log. Used for one stage of topics after the other."""

    def read(self, topics: Sequence[str]) -> AsyncIterator[Sequence[Record]]:
        """All committed records of these topics up to their ends at this moment.

        The order within a partition is that of the log. Transactions that were open at this
        moment are waited for. Raises VerifyError when a topic cannot be read.
        """

    def begins_late(self) -> Sequence[tuple[str, int]]:
        """Topics and partitions, of those read, without their oldest records."""


class KafkaSource:
    """A cluster, read without a group and with `read_committed`."""

    def __init__(
        self, options: Mapping[str, Any], partitions: int, progress: Progress | None = None
    ) -> None:
        self._options = options
        self._partitions = partitions
        self._progress = progress
        self._late: list[tuple[str, int]] = []

    def begins_late(self) -> Sequence[tuple[str, int]]:
        return self._late

    async def read(self, topics: Sequence[str]) -> AsyncIterator[Sequence[Record]]:
        async with CommittedLog(self._options) as log:
            tps = self._existing(log, topics)
            begins, ends = await log.begins(tps), await log.ends(tps)
            self._late += [(tp.topic, tp.partition) for tp in tps if begins[tp] > 0]
            progress = partial(self._progress, "read") if self._progress is not None else None
            try:
                async for batch in log.read(begins, ends, progress=progress):
                    self._require_lane(batch)
                    yield batch
            except ReadStalled as error:
                raise VerifyError(str(error)) from None

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

    def _existing(self, log: CommittedLog, topics: Sequence[str]) -> list[TopicPartition]:
        problems, found = [], []
        for topic in topics:
            partitions = log.partitions(topic)
            if not partitions:
                problems.append(f"topic {topic} is not there")
            elif len(partitions) < self._partitions:
                problems.append(f"topic {topic} has {len(partitions)} partitions")
            else:
                found += partitions
        if problems:
            wanted = (
                f"BILLING_PARTITIONS says {self._partitions} each; `billing-stream topics check` "
                "says all that is wrong"
            )
            raise VerifyError("; ".join([*problems[:5], wanted]))
        return found
