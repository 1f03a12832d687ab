"""Reads committed records of the partitions that the group assigns, from the stored positions."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from billing_stream.faust_adapter.unfinished import finish
from billing_stream.kafka.consumers import KafkaConsumer
from billing_stream.kafka.group_membership import refusal_of, watch_membership
from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.projector.positions import LastRecord, digest_of
from billing_stream.projector.projected_records import Record

Records = dict[TopicPartition, list[Record]]
"""What was read, by partition, in its order."""

logger = logging.getLogger(__name__)

READ_WAIT_MS = 200
STOP_SECONDS_MAX = 5.0
# While PostgreSQL is away nothing is read, and the group need not know.
IDLE_MS_MAX = 2**31 - 1
# A topic that was deleted and created again is noticed after this.
METADATA_MS_MAX = 10_000


class Reader:
    """Partitions, each either placed at a position or waiting to be."""

    def __init__(
        self, consumer: Any, group: str | None = None, silent: SilentBrokers | None = None
    ) -> None:
        self._consumer = consumer
        self._silent = silent
        self._group = group
        # What ended the membership in the group.
        self._lost: list[BaseException] = []
        # The next offset to be read of each.
        self.placed: dict[TopicPartition, int] = {}
        # Where the database stands, as far as we know; kept while it is away.
        self.stored: dict[TopicPartition, int] = {}
        # Where the client stands when it gave no record: behind markers, which are none.
        self._passed: dict[TopicPartition, int] = {}
        # The last record before the position, read once more to see that it is the same.
        self._expected: dict[TopicPartition, LastRecord] = {}
        # Partitions whose last record is another one now, with its offset.
        self.replaced: dict[TopicPartition, int] = {}
        # When partitions were stored to their ends, last, until the database has it.
        self.complete: dict[TopicPartition, datetime] = {}

    @classmethod
    def of_group(
        cls, options: Mapping[str, Any], topics: Sequence[str], group: str, session_ms: int
    ) -> "Reader":
        """A member of the group, which is given some of the partitions."""
        silent = SilentBrokers(options)
        consumer = _consumer(
            options,
            silent,
            group_id=group,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 4,
            max_poll_interval_ms=IDLE_MS_MAX,
        )
        reader = cls(consumer, group, silent)
        consumer.subscribe(topics, listener=_Listener(reader))
        return reader

    @classmethod
    def of_all(cls, options: Mapping[str, Any], tps: Iterable[TopicPartition]) -> "Reader":
        """Reads all of these partitions, outside any group."""
        consumer = _consumer(options, SilentBrokers(options), group_id=None)
        consumer.assign([*tps])
        return cls(consumer)

    def none_answers(self) -> str | None:
        """Since when no broker answers, and why; None while one does."""
        return None if self._silent is None else self._silent.none_answers()

    async def start(self) -> None:
        """Connect. Raises KafkaConnectionError when no broker answers, and GroupRefused."""
        try:
            await self._consumer.start()
        except KafkaError as error:
            raise (refusal_of(self._group, error) if self._group else None) or error from None
        if self._group is not None:
            watch_membership(self._consumer, self._lost.append)

    async def stop(self) -> None:
        """Leave the group and disconnect."""
        # Without a broker the group cannot be left; it will notice.
        await finish(self._consumer.stop(), STOP_SECONDS_MAX, "leaving the group")

    def assigned(self) -> set[TopicPartition]:
        """The partitions we read."""
        return set(self._consumer.assignment())

    def unpositioned(self) -> set[TopicPartition]:
        """The partitions we are to read, and do not know from where."""
        return self.assigned() - self.placed.keys()

    def reset_positions(self, tps: Iterable[TopicPartition] | None = None) -> None:
        """Forget the positions of these (or all): they need a `seek` before the next read."""
        for tp in list(self.placed if tps is None else tps):
            self.placed.pop(tp, None)
            self._passed.pop(tp, None)
            self._expected.pop(tp, None)

    def seek(
        self, positions: Mapping[TopicPartition, int], last: Mapping[TopicPartition, LastRecord]
    ) -> None:
        """Read on from these positions, which the database has stored.

        The client begins at the `last` record before a position: it must be the same.
        """
        for tp, offset in positions.items():
            expected = last.get(tp)
            try:
                self._consumer.seek(tp, offset if expected is None else expected.offset)
            except IllegalStateError:
                # Taken from us in the meantime.
                continue
            self.reset_positions([tp])
            self.placed[tp] = self.stored[tp] = offset
            if expected is not None:
                self._expected[tp] = expected

    async def read(self, records_max: int) -> tuple[Records, dict[TopicPartition, int]]:
        """Committed records of placed partitions, and the offsets from which they were read.

        Nothing when none came in a while. A partition loses its position when that is out of its
        log, or when its last record is another one. Raises GroupRefused when this process can no
        longer be a member of the group.
        """
        if self._lost:
            raise self._lost[0]
        if not self.placed:
            # Without partitions given, the client would read all.
            await asyncio.sleep(READ_WAIT_MS / 1000)
            return {}, {}
        wanted = list(self.placed)
        try:
            answer = await self._consumer.getmany(
                *wanted, timeout_ms=READ_WAIT_MS, max_records=records_max
            )
        except (IllegalStateError, NoOffsetForPartitionError):
            # The latter is of before the seek: the group's own offsets are not used.
            return {}, {}
        except OffsetOutOfRangeError as error:
            self.reset_positions(error.args[0])
            return {}, {}
        # What a rebalance took from us is read again, from its position.
        found = {tp: self._compared(tp, r) for tp, r in answer.items() if r and tp in self.placed}
        found = {tp: records for tp, records in found.items() if records}
        begins = {tp: self.placed[tp] for tp in found}
        for tp, records in found.items():
            self.placed[tp] = records[-1].offset + 1
        for tp in self.placed.keys() - found.keys():
            await self._note_markers(tp)
        return found, begins

    def _compared(self, tp: TopicPartition, records: list[Record]) -> list[Record]:
        """The records from the position on, when the one before it is the same as it was."""
        expected, first = self._expected.pop(tp, None), records[0]
        compared = expected is not None and first.offset == expected.offset
        if expected is not None and compared and digest_of(first) != expected.digest:
            self.replaced[tp] = expected.offset
            self.reset_positions([tp])
            return []
        # One that compaction removed cannot be compared.
        position = self.placed[tp]
        if first.offset >= position:
            return records
        return [record for record in records if record.offset >= position]

    async def _note_markers(self, tp: TopicPartition) -> None:
        try:
            self._passed[tp] = await self._consumer.position(tp)
        except IllegalStateError:
            self._passed.pop(tp, None)

    def lag(self, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """How many committed offsets before these ends are not stored, of each partition."""
        found = {}
        for tp, end in ends.items():
            position = self.stored.get(tp, 0)
            if self.placed.get(tp) == position:
                position = max(position, self._passed.get(tp, 0))
            found[tp] = max(0, end - position)
        return found

    def note_complete(self, lags: Mapping[TopicPartition, int], at: datetime) -> None:
        """Note the partitions without a lag; `at` is before their ends were asked for."""
        self.complete.update(dict.fromkeys((tp for tp, lag in lags.items() if not lag), at))

    async def ends(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The ends of partitions, as a reader of committed records sees them.

        Raises KafkaError when the broker does not answer.
        """
        ends = await self._consumer.end_offsets(list(tps))
        return dict(ends)

    async def begins(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offsets at which the logs of partitions begin. Raises KafkaError as `ends`."""
        return dict(await self._consumer.beginning_offsets(list(tps)))

    def caught_up(self) -> list[TopicPartition]:
        """Partitions of which all that was read is stored."""
        return [tp for tp, offset in self.placed.items() if self.stored.get(tp) == offset]

    def behind_markers(self) -> dict[TopicPartition, tuple[int, int]]:
        """Partitions of which all is stored: the position, and one further on after markers."""
        return {
            tp: (self.stored[tp], passed)
            for tp in self.caught_up()
            if (passed := self._passed.get(tp, 0)) > self.stored[tp]
        }

    def move(self, positions: Mapping[TopicPartition, int]) -> None:
        """Take note of positions that were stored behind markers."""
        for tp, offset in positions.items():
            self.placed[tp] = self.stored[tp] = offset

    async def commit_group_offsets(self) -> None:
        """Commit the positions to the group, for tools that show lag; nothing depends on it."""
        assigned = self.assigned()
        offsets = {tp: o for tp, o in self.stored.items() if tp in assigned}
        try:
            if offsets:
                await self._consumer.commit(offsets)
        except (KafkaError, IllegalStateError) as error:
            logger.debug("positions not committed to the group: %r", error)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Partitions that are revoked or assigned need a new position."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Read nothing more of what may be another projector's by now."""
        self._reader.reset_positions()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Have all of it placed."""
        self._reader.reset_positions()
        self._reader.stored = {p: o for p, o in self._reader.stored.items() if p in assigned}


def _consumer(options: Mapping[str, Any], silent: SilentBrokers, **more: Any) -> KafkaConsumer:
    consumer = KafkaConsumer(
        **options,
        **more,
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_max_wait_ms=100,
        metadata_max_age_ms=METADATA_MS_MAX,
        max_partition_fetch_bytes=2 << 20,
    )
    silent.avoided_by(consumer._client)
    return consumer
