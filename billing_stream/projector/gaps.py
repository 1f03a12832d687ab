"""What the projection lacks of the log, or has of another one: stored, shown, accepted.

`trimmed`: Kafka deleted records (retention, DeleteRecords) before they were projected. The
partition is read on after the gap. `replaced`: the topic was deleted and created again, or the
end of its log was lost. The partition is not read until an operator accepts it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from aiokafka import TopicPartition
from msgspec import Struct

from billing_stream.projector import positions
from billing_stream.records.record_ref import RecordRef

TRIMMED = "trimmed"
REPLACED = "replaced"

_COLUMNS = "topic, partition, kind, from_offset, to_offset, found_at, accepted_at"
_ADD = """
INSERT INTO projection_gaps (topic, partition, kind, from_offset, to_offset)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (topic, partition, kind, from_offset) DO UPDATE SET to_offset = excluded.to_offset,
    found_at = now(), accepted_at = NULL, accepted_by = NULL, accepted_reason = NULL,
    resumed_at = NULL
"""
_STOPS = f"""
SELECT {_COLUMNS} FROM projection_gaps
WHERE kind = '{REPLACED}' AND resumed_at IS NULL
    AND (topic, partition) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
ORDER BY accepted_at NULLS LAST
"""
_OPEN = f"""
SELECT {_COLUMNS} FROM projection_gaps WHERE accepted_at IS NULL
ORDER BY topic, partition, from_offset
"""
_RESUME = f"""
UPDATE projection_gaps SET resumed_at = now()
WHERE topic = $1 AND partition = $2 AND kind = '{REPLACED}' AND resumed_at IS NULL
"""
_ACCEPT = f"""
UPDATE projection_gaps SET accepted_at = now(), accepted_by = $1, accepted_reason = $2
WHERE accepted_at IS NULL
    AND ($3::text IS NULL OR (topic, partition, from_offset) = ($3, $4::integer, $5::bigint))
RETURNING {_COLUMNS}
"""


class Gap(Struct, frozen=True):
    """Offsets `from_offset` up to, and without, `to_offset` of one partition."""

    topic: str
    partition: int
    kind: str
    from_offset: int
    to_offset: int
    found_at: datetime | None = None
    accepted_at: datetime | None = None

    @classmethod
    def of(cls, tp: TopicPartition, kind: str, begin: int, end: int) -> "Gap":
        """One that was found just now."""
        topic, partition = tp
        return cls(topic, partition, kind, begin, end)

    @property
    def tp(self) -> TopicPartition:
        """The partition."""
        return TopicPartition(self.topic, self.partition)

    @property
    def ref(self) -> RecordRef:
        """Its first offset, as an operator names it."""
        return RecordRef(self.topic, self.partition, self.from_offset)

    def __str__(self) -> str:
        place = f"{self.topic}[{self.partition}] offsets {self.from_offset} to {self.to_offset - 1}"
        if self.kind == TRIMMED:
            return f"{place} were deleted from Kafka before they were projected"
        return (
            f"{place} were projected and are not in the log any more, or hold other records: the "
            "topic was created again or truncated; this partition is stopped"
        )


async def stops(connection: Any, tps: Collection[TopicPartition]) -> dict[TopicPartition, Gap]:
    """The stop of each of these partitions that has one; open ones before accepted ones."""
    found = [Gap(*row) for row in await connection.fetch(_STOPS, *positions.columns(tps))]
    return {gap.tp: gap for gap in found}


async def open_gaps(connection: Any) -> list[Gap]:
    """All that no operator has accepted, of all partitions."""
    return [Gap(*row) for row in await connection.fetch(_OPEN)]


async def stop(connection: Any, gap: Gap) -> None:
    """Store that a partition is stopped."""
    await connection.execute(_ADD, *_values(gap))


async def pass_over(connection: Any, gap: Gap) -> None:
    """Store a gap and move the position behind it, together. Raises PositionsMoved."""
    async with connection.transaction():
        await positions.lock(connection, {gap.tp: gap.from_offset})
        await connection.execute(_ADD, *_values(gap))
        await positions.save(connection, {gap.tp: gap.to_offset}, {})


async def resume(connection: Any, gap: Gap, position: int, begin: int) -> None:
    """Read an accepted partition again from `begin`. Raises PositionsMoved."""
    async with connection.transaction():
        await positions.lock(connection, {gap.tp: position})
        await connection.execute(_RESUME, *gap.tp)
        await positions.save(connection, {gap.tp: begin}, {})


async def accept(
    connection: Any, refs: Sequence[RecordRef] | None, *, by: str, reason: str
) -> list[Gap]:
    """Accept open gaps by their first offsets, None for all; those that were accepted."""
    found = []
    for ref in [None] if refs is None else refs:
        asked = (None, None, None) if ref is None else ref
        found += [Gap(*row) for row in await connection.fetch(_ACCEPT, by, reason, *asked)]
    return found


def _values(gap: Gap) -> tuple[Any, ...]:
    return gap.topic, gap.partition, gap.kind, gap.from_offset, gap.to_offset
