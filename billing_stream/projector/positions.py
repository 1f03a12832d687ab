"""How far the log was read, kept beside the rows and committed with them."""

from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import TopicPartition

from billing_stream.projector.projector_errors import PositionsMoved

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
_SAVE = """
UPDATE projection_positions p SET next_offset = reached.next_offset, updated_at = now()
FROM unnest($1::text[], $2::integer[], $3::bigint[]) AS reached (topic, partition, next_offset)
WHERE p.topic = reached.topic AND p.partition = reached.partition
"""


async def add(connection: Any, tps: Collection[TopicPartition]) -> None:
    """Begin at 0 with partitions that have no position yet."""
    await connection.execute(_ADD, *_columns(tps))


async def load(connection: Any, tps: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """The positions of these partitions, those that have one."""
    return _found(await connection.fetch(_LOAD, *_columns(tps)))


async def lock(connection: Any, expected: Mapping[TopicPartition, int]) -> None:
    """Keep all others from writing rows of these partitions until the transaction ends.

    Raises PositionsMoved unless they stand where we began: rows written from elsewhere on
    would leave a gap. It is the first statement of every transaction that writes.
    """
    if _found(await connection.fetch(_LOCK, *_columns(expected))) != expected:
        raise PositionsMoved


async def save(connection: Any, reached: Mapping[TopicPartition, int]) -> None:
    """Set the positions, under the lock."""
    await connection.execute(_SAVE, *_columns(reached), list(reached.values()))


def _columns(tps: Collection[TopicPartition]) -> tuple[list[str], list[int]]:
    return [topic for topic, _ in tps], [partition for _, partition in tps]


def _found(rows: Any) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, partition): offset for topic, partition, offset in rows}
