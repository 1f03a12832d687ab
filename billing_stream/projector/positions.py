"""How far the log was read, kept next to the rows and committed with them."""

from collections.abc import Collection, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from billing_stream.projector.projected_records import Record
from billing_stream.projector.projector_errors import PositionsMoved

# A last record further back than this is not looked at again.
LAST_RECORD_DISTANCE_MAX = 10_000

_ADD = """
INSERT INTO projection_positions (topic, partition, next_offset)
SELECT topic, partition, 0 FROM unnest($1::text[], $2::integer[]) AS wanted (topic, partition)
ON CONFLICT DO NOTHING
"""
_LOAD = """
SELECT topic, partition, next_offset FROM projection_positions
WHERE (topic, partition) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
"""
# In one order, so that two projectors wait for each other and never both.
_LOCK = _LOAD + "ORDER BY topic, partition FOR UPDATE"
_LAST = f"""
SELECT topic, partition, last_offset, last_digest FROM projection_positions
WHERE (topic, partition) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
    AND last_digest IS NOT NULL
    AND last_offset BETWEEN next_offset - {LAST_RECORD_DISTANCE_MAX} AND next_offset - 1
"""
_SAVE = """
UPDATE projection_positions p SET next_offset = reached.next_offset,
    last_offset = reached.last_offset, last_digest = reached.last_digest, updated_at = now()
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[])
    AS reached (topic, partition, next_offset, last_offset, last_digest)
WHERE p.topic = reached.topic AND p.partition = reached.partition
"""
_PASS = """
UPDATE projection_positions p SET next_offset = passed.to_offset, updated_at = now()
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[])
    AS passed (topic, partition, from_offset, to_offset)
WHERE p.topic = passed.topic AND p.partition = passed.partition
    AND p.next_offset = passed.from_offset
RETURNING p.topic, p.partition, p.next_offset
"""
# Rows that another projector is writing are passed over: it knows better.
_COMPLETE = """
UPDATE projection_positions p SET complete_at = $3
FROM (
    SELECT topic, partition FROM projection_positions
    WHERE (topic, partition) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
    FOR UPDATE SKIP LOCKED
) free
WHERE p.topic = free.topic AND p.partition = free.partition
"""


class LastRecord(NamedTuple):
    """The last record that was projected of a partition: its offset and its digest."""

    offset: int
    digest: str

    @classmethod
    def of(cls, record: Record) -> "LastRecord":
        """What to compare a record at the same offset with."""
        return cls(record.offset, digest_of(record))


def digest_of(record: Record) -> str:
    """A digest of the key and value of a record, as hexadecimal text."""
    found = blake2b(digest_size=8)
    for part in (record.key, record.value):
        found.update(b"-" if part is None else b"%d:%b" % (len(part), part))
    return found.hexdigest()


async def add(connection: Any, tps: Collection[TopicPartition]) -> None:
    """Begin at 0 with partitions that have no position yet."""
    await connection.execute(_ADD, *columns(tps))


async def load(connection: Any, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """The positions of these partitions, those that have one."""
    return _found(await connection.fetch(_LOAD, *columns(tps)))


async def load_last(
    connection: Any, tps: Collection[TopicPartition]
) -> dict[TopicPartition, LastRecord]:
    """The last records before the positions of these partitions, those that are known."""
    rows = await connection.fetch(_LAST, *columns(tps))
    return {TopicPartition(*row[:2]): LastRecord(*row[2:]) for row in rows}


async def lock(connection: Any, expected: Mapping[TopicPartition, int]) -> None:
    """Keep all others from writing rows of these partitions until the transaction ends.

    Raises PositionsMoved unless they are where this batch began: rows written from elsewhere on
    would leave a gap. It is the first statement of every transaction that writes.
    """
    if _found(await connection.fetch(_LOCK, *columns(expected))) != expected:
        raise PositionsMoved


async def save(
    connection: Any,
    reached: Mapping[TopicPartition, int],
    last: Mapping[TopicPartition, LastRecord],
) -> None:
    """Set the positions and the last records before them, under the lock."""
    known = [last.get(tp) for tp in reached]
    offsets = [found.offset if found else None for found in known]
    digests = [found.digest if found else None for found in known]
    await connection.execute(_SAVE, *columns(reached), list(reached.values()), offsets, digests)


async def pass_markers(
    connection: Any, passed: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, int]:
    """Move positions over offsets that hold no records, from and to; those that were moved."""
    begins, ends = zip(*passed.values(), strict=True)
    return _found(await connection.fetch(_PASS, *columns(passed), begins, ends))


async def note_complete(connection: Any, tps: Collection[TopicPartition], at: datetime) -> None:
    """Store that all that was committed in these partitions at this time is projected."""
    await connection.execute(_COMPLETE, *columns(tps), at)


def columns(tps: Collection[TopicPartition]) -> tuple[list[str], list[int]]:
    """Topics and partition numbers, for two arrays of a statement."""
    return [topic for topic, _ in tps], [partition for _, partition in tps]


def _found(rows: Any) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, partition): offset for topic, partition, offset in rows}
