"""How far the log was read, kept beside the rows and committed with them."""

from collections.abc import Collection, Mapping
from typing import Any

from billing_stream.projector.projector_errors import PositionsMoved
from billing_stream.projector.upsert_batch import Place

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


async def add(connection: Any, places: Collection[Place]) -> None:
    """Begin at 0 with partitions that have no position yet."""
    await connection.execute(_ADD, *_columns(places))


async def load(connection: Any, places: Collection[Place]) -> dict[Place, int]:
    """The positions of these partitions, those that have one."""
    return _found(await connection.fetch(_LOAD, *_columns(places)))


async def lock(connection: Any, expected: Mapping[Place, int]) -> None:
    """Keep all others from writing rows of these partitions until the transaction ends.

    Raises PositionsMoved unless they stand where we began: rows written from elsewhere on
    would leave a gap. It is the first statement of every transaction that writes.
    """
    if _found(await connection.fetch(_LOCK, *_columns(expected))) != expected:
        raise PositionsMoved


async def save(connection: Any, reached: Mapping[Place, int]) -> None:
    """Set the positions, under the lock."""
    await connection.execute(_SAVE, *_columns(reached), list(reached.values()))


def _columns(places: Collection[Place]) -> tuple[list[str], list[int]]:
    return [topic for topic, _ in places], [partition for _, partition in places]


def _found(rows: Any) -> dict[Place, int]:
    return {(topic, partition): offset for topic, partition, offset in rows}
