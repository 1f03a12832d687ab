"""Events in PostgreSQL, from the log to the queues of endpoints. All under `locks.written`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple

from billing_stream.deliver.event_bodies import StoredEvent

_ADD_EVENTS = """
INSERT INTO webhook_events (event_id, merchant_id, sequence, event_type, at, body)
SELECT e.* FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::timestamptz[],
    $6::bytea[]) AS e (event_id, merchant_id, sequence, event_type, at, body)
LEFT JOIN webhook_merchants m USING (merchant_id)
WHERE e.sequence > coalesce(m.sequence, 0)
ON CONFLICT DO NOTHING
"""
_ADD_MERCHANTS = """
INSERT INTO webhook_merchants (merchant_id, sequence) SELECT unnest($1::text[]), 0
ON CONFLICT DO NOTHING
"""
_OF_TYPE = "(p.event_types IS NULL OR e.event_type = ANY(p.event_types))"
_QUEUED = """
queued AS (
    INSERT INTO webhook_deliveries (endpoint_id, merchant_id, sequence, event_id)
    SELECT p.id, e.merchant_id, e.sequence, e.event_id
    FROM {events} e JOIN webhook_endpoints p ON {on}
    ON CONFLICT DO NOTHING
    RETURNING endpoint_id, merchant_id
), queues AS (
    INSERT INTO webhook_queues (endpoint_id, merchant_id, due_at)
    SELECT DISTINCT endpoint_id, merchant_id, now() FROM queued
    ON CONFLICT DO NOTHING
)
"""
_COUNT = "SELECT count(*) FROM queued"
# A merchant's events are in as many topics as they have types, and numbered without gaps.
_QUEUE_IN_ORDER = (
    """
WITH numbered AS (
    SELECT e.event_id, e.merchant_id, e.sequence, e.event_type, e.at, m.sequence AS reached,
        row_number() OVER (PARTITION BY e.merchant_id ORDER BY e.sequence) AS number
    FROM webhook_merchants m JOIN webhook_events e USING (merchant_id)
    WHERE m.merchant_id = ANY($1) AND e.sequence > m.sequence
), in_order AS MATERIALIZED (
    SELECT * FROM numbered WHERE sequence = reached + number
), reached AS (
    UPDATE webhook_merchants m SET sequence = r.sequence
    FROM (SELECT merchant_id, max(sequence) AS sequence FROM in_order GROUP BY merchant_id) r
    WHERE m.merchant_id = r.merchant_id
),"""
    + _QUEUED.format(events="in_order", on=f"e.at >= p.begins_at AND {_OF_TYPE}")
    + _COUNT
)
# Those behind a merchant's sequence only: the others are queued when they are in order.
_READ = """
WITH known AS (
    SELECT e.* FROM webhook_events e JOIN webhook_merchants m USING (merchant_id)
    WHERE e.sequence <= m.sequence AND {which}
),"""
_QUEUE_IDS = (
    _READ.format(which="e.event_id = ANY($2)")
    + _QUEUED.format(events="known", on="p.id = $1")
    + _COUNT
)
_QUEUE_TIMES = (
    _READ.format(which="e.at >= $2 AND e.at < $3")
    + _QUEUED.format(events="known", on=f"p.id = $1 AND {_OF_TYPE}")
    + _COUNT
)
_WAITING = """
UPDATE webhook_merchants m SET waiting_since = CASE WHEN w.waits THEN now() END
FROM (
    SELECT merchant_id, EXISTS (
        SELECT 1 FROM webhook_events e
        WHERE e.merchant_id = x.merchant_id AND e.sequence > x.sequence
    ) AS waits FROM webhook_merchants x WHERE x.merchant_id = ANY($1)
) w
WHERE m.merchant_id = w.merchant_id AND w.waits <> (m.waiting_since IS NOT NULL)
"""
_PASS = """
UPDATE webhook_merchants m SET sequence = e.next - 1
FROM (
    SELECT min(e.sequence) AS next FROM webhook_events e
    JOIN webhook_merchants m USING (merchant_id)
    WHERE e.merchant_id = $1 AND e.sequence > m.sequence
) e
WHERE m.merchant_id = $1 AND e.next > m.sequence + 1
RETURNING e.next
"""
_STALE = """
SELECT merchant_id, sequence + 1 AS missing, waiting_since FROM webhook_merchants
WHERE waiting_since < now() - $1::interval ORDER BY waiting_since LIMIT $2
"""
_ABANDON = """
DELETE FROM webhook_deliveries d USING webhook_endpoints p, webhook_events e
WHERE p.id = d.endpoint_id AND p.disabled_at IS NOT NULL
    AND e.event_id = d.event_id AND e.at < now() - $1::interval
RETURNING d.endpoint_id
"""
_PRUNE = """
DELETE FROM webhook_events WHERE event_id IN (
    SELECT e.event_id FROM webhook_events e JOIN webhook_merchants m USING (merchant_id)
    WHERE e.at < now() - $1::interval AND e.sequence <= m.sequence
        AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.event_id = e.event_id)
    LIMIT $2
)
"""
_EMPTY_QUEUES = """
DELETE FROM webhook_queues q WHERE endpoint_id = ANY($1) AND NOT EXISTS (
    SELECT 1 FROM webhook_deliveries d
    WHERE d.endpoint_id = q.endpoint_id AND d.merchant_id = q.merchant_id
)
"""
_ONE_EVENT_EACH = "SELECT event_id FROM webhook_events WHERE event_id = ANY($1)"


class MissingEvent(Struct, frozen=True):
    """A merchant with events that wait for an earlier one, which was not read."""

    merchant_id: str
    missing: int
    waiting_since: datetime


async def add(connection: Any, events: Sequence[StoredEvent]) -> int:
    """Store events and queue those that are in order; how many deliveries were queued.

    One that was stored before changes nothing.
    """
    if not events:
        return 0
    columns = [list(column) for column in zip(*map(astuple, events), strict=True)]
    merchants = sorted({event.merchant_id for event in events})
    await connection.execute(_ADD_MERCHANTS, merchants)
    await connection.execute(_ADD_EVENTS, *columns)
    return await _queue(connection, merchants)


async def _queue(connection: Any, merchants: Sequence[str]) -> int:
    queued: int = await connection.fetchval(_QUEUE_IN_ORDER, merchants)
    await connection.execute(_WAITING, merchants)
    return queued


async def pass_missing(connection: Any, merchant_id: str) -> int | None:
    """Queue a merchant's events behind missing ones; the first of them, None without any."""
    first: int | None = await connection.fetchval(_PASS, merchant_id)
    if first is not None:
        await _queue(connection, [merchant_id])
    return first


async def missing_events(connection: Any, after: timedelta, limit: int) -> list[MissingEvent]:
    """Merchants with events that have waited for longer than `after`, the longest first."""
    return [MissingEvent(**dict(row)) for row in await connection.fetch(_STALE, after, limit)]


async def queue_ids(connection: Any, endpoint_id: str, event_ids: Sequence[str]) -> int:
    """Queue stored events once more, by id; how many are queued that were not."""
    queued: int = await connection.fetchval(_QUEUE_IDS, endpoint_id, event_ids)
    return queued


async def queue_times(connection: Any, endpoint_id: str, begin: datetime, end: datetime) -> int:
    """As `queue_ids`: those of the endpoint's types, from `begin` up to and without `end`."""
    queued: int = await connection.fetchval(_QUEUE_TIMES, endpoint_id, begin, end)
    return queued


async def unknown_ids(connection: Any, event_ids: Sequence[str]) -> list[str]:
    """Those of the ids that no stored event has."""
    known = {row[0] for row in await connection.fetch(_ONE_EVENT_EACH, event_ids)}
    return [one for one in event_ids if one not in known]


async def prune(connection: Any, retention: timedelta, limit: int) -> tuple[dict[str, int], int]:
    """Delete events that are too old and wait nowhere, at most `limit`.

    Disabled endpoints lose theirs: how many, by endpoint. And how many events were deleted.
    """
    lost: dict[str, int] = {}
    for row in await connection.fetch(_ABANDON, retention):
        lost[row[0]] = lost.get(row[0], 0) + 1
    if lost:
        await connection.execute(_EMPTY_QUEUES, list(lost))
    done = await connection.execute(_PRUNE, retention, limit)
    return lost, int(done.rpartition(" ")[2])
