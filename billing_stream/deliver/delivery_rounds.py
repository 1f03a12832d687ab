"""One round of the dispatcher: note the results, take the next events."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from msgspec import Struct

from billing_stream.deliver.endpoint_events import note_change
from billing_stream.records.endpoint_changes import EndpointState

# As many of one merchant are sent, one after the other, before they are noted.
EVENTS_PER_TURN = 10
ERROR_CHARACTERS_MAX = 200

_QUEUES = "unnest($1::text[], $2::text[]) AS r (endpoint_id, merchant_id)"
_DELIVERED = """
DELETE FROM webhook_deliveries d
USING unnest($1::text[], $2::text[], $3::bigint[]) AS r (endpoint_id, merchant_id, sequence)
WHERE d.endpoint_id = r.endpoint_id AND d.merchant_id = r.merchant_id
    AND d.sequence = r.sequence
"""
_SUCCEEDED = f"""
UPDATE webhook_queues q SET due_at = now(), attempts = 0, failing_since = NULL FROM {_QUEUES}
WHERE q.endpoint_id = r.endpoint_id AND q.merchant_id = r.merchant_id
"""
_EMPTY = f"""
DELETE FROM webhook_queues q USING {_QUEUES}
WHERE q.endpoint_id = r.endpoint_id AND q.merchant_id = r.merchant_id AND NOT EXISTS (
    SELECT 1 FROM webhook_deliveries d
    WHERE d.endpoint_id = q.endpoint_id AND d.merchant_id = q.merchant_id
)
"""
_FAILED = """
UPDATE webhook_queues q SET attempts = q.attempts + 1,
    failing_since = coalesce(q.failing_since, now()),
    due_at = now() + r.delay
FROM unnest($1::text[], $2::text[], $3::interval[]) AS r (endpoint_id, merchant_id, delay)
WHERE q.endpoint_id = r.endpoint_id AND q.merchant_id = r.merchant_id
RETURNING q.endpoint_id, q.merchant_id,
    coalesce(q.failing_since, now()) < now() - $4::interval AS exhausted
"""
_WORKS = """
UPDATE webhook_endpoints SET failing_since = NULL, last_error = NULL
WHERE id = ANY($1) AND last_error IS NOT NULL
"""
_FAILS = """
UPDATE webhook_endpoints e SET last_error = r.error, failing_since =
    CASE WHEN e.id = ANY($3) THEN NULL ELSE coalesce(e.failing_since, now()) END
FROM unnest($1::text[], $2::text[]) AS r (id, error) WHERE e.id = r.id
"""
_DISABLE = """
UPDATE webhook_endpoints SET disabled_at = now(), disabled_because =
    CASE WHEN id = ANY($2) THEN 'it answered 410 Gone'
    ELSE 'without a success since ' || to_char(failing_since, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') END
WHERE id = ANY($1) AND disabled_at IS NULL
    AND (id = ANY($2) OR failing_since < now() - $3::interval)
RETURNING id, disabled_because
"""
_DUE = f"""
SELECT q.endpoint_id, q.merchant_id, q.attempts, d.sequence, d.event_id, e.event_type, e.body
FROM unnest($1::text[], $2::integer[]) AS p (id, free)
CROSS JOIN LATERAL (
    SELECT * FROM webhook_queues q
    WHERE q.endpoint_id = p.id AND q.due_at <= now()
        AND (q.endpoint_id, q.merchant_id) NOT IN (SELECT * FROM unnest($3::text[], $4::text[]))
    ORDER BY q.due_at LIMIT p.free
) q
CROSS JOIN LATERAL (
    SELECT d.sequence, d.event_id FROM webhook_deliveries d
    WHERE d.endpoint_id = q.endpoint_id AND d.merchant_id = q.merchant_id
    ORDER BY d.sequence LIMIT {EVENTS_PER_TURN}
) d
JOIN webhook_events e USING (event_id)
ORDER BY q.endpoint_id, q.due_at, q.merchant_id, d.sequence
"""
_PENDING = """
SELECT p.id, count(d.event_id) AS pending,
    coalesce(extract(epoch FROM now() - min(q.failing_since)), 0)::float8 AS failing_seconds
FROM webhook_endpoints p
LEFT JOIN webhook_queues q ON q.endpoint_id = p.id
LEFT JOIN webhook_deliveries d
    ON d.endpoint_id = q.endpoint_id AND d.merchant_id = q.merchant_id
GROUP BY p.id
"""


class Queue(NamedTuple):
    """The events of one merchant for one endpoint, which are sent one after the other."""

    endpoint_id: str
    merchant_id: str


class Due(Struct, frozen=True, gc=False):
    """An event to be sent; `attempts` of it have failed."""

    sequence: int
    event_id: str
    event_type: str
    body: bytes
    attempts: int


class Sent(Struct, frozen=True, kw_only=True):
    """What became of a request. `error`: None for a success. `delay` is until the next try.

    `wait`: seconds that the endpoint asked for (Retry-After), 0 when it did not.
    """

    queue: Queue
    event: Due
    error: str | None = None
    gone: bool = False
    delay: timedelta = timedelta(0)
    wait: float = 0.0


class Noted(Struct):
    """What follows from the results of a round: endpoints disabled and why, events given up."""

    disabled: dict[str, str]
    given_up: list[Sent]


async def note(connection: Any, results: Sequence[Sent], retry_for: timedelta) -> Noted:
    """Note the results: delivered ones leave their queue, failed ones wait for the next try.

    An endpoint without a success for `retry_for`, or that is gone, is disabled, and keeps its
    events. An event that fails for `retry_for` at an endpoint that takes others is given up.
    """
    succeeded = [result for result in results if result.error is None]
    failed = [result for result in results if result.error is not None]
    if succeeded:
        await _delivered(connection, succeeded)
        await connection.execute(_WORKS, sorted({one.queue.endpoint_id for one in succeeded}))
    if not failed:
        return Noted({}, [])
    works = {one.queue.endpoint_id for one in succeeded}
    errors = {one.queue.endpoint_id: (one.error or "")[:ERROR_CHARACTERS_MAX] for one in failed}
    await connection.execute(_FAILS, list(errors), list(errors.values()), sorted(works))
    gone = sorted({one.queue.endpoint_id for one in failed if one.gone})
    rows = await connection.fetch(_DISABLE, list(errors), gone, retry_for)
    disabled = {row[0]: row[1] for row in rows}
    delays = [one.delay for one in failed]
    tried = await connection.fetch(_FAILED, *_columns(failed), delays, retry_for)
    exhausted = {Queue(*row[:2]) for row in tried if row[2]}
    given_up = [
        one for one in failed if one.queue in exhausted and one.queue.endpoint_id not in disabled
    ]
    if given_up:
        await _delivered(connection, given_up)
    if disabled:
        await note_change(connection, disabled, EndpointState.DISABLED)
    return Noted(disabled, given_up)


async def _delivered(connection: Any, results: Sequence[Sent]) -> None:
    sequences = [one.event.sequence for one in results]
    await connection.execute(_DELIVERED, *_columns(results), sequences)
    queues = _columns(results)
    await connection.execute(_SUCCEEDED, *queues)
    await connection.execute(_EMPTY, *queues)


def _columns(results: Sequence[Sent]) -> tuple[list[str], list[str]]:
    queues = [one.queue for one in results]
    return [queue.endpoint_id for queue in queues], [queue.merchant_id for queue in queues]


async def due(
    connection: Any, free: Mapping[str, int], busy: Collection[Queue]
) -> dict[Queue, list[Due]]:
    """The events to send now: of each endpoint at most as many queues as are `free`, not `busy`."""
    rows = await connection.fetch(
        _DUE,
        list(free),
        list(free.values()),
        [queue.endpoint_id for queue in busy],
        [queue.merchant_id for queue in busy],
    )
    found: dict[Queue, list[Due]] = {}
    for endpoint_id, merchant_id, attempts, sequence, event_id, event_type, body in rows:
        events = found.setdefault(Queue(endpoint_id, merchant_id), [])
        # Only the first one of a queue has been tried.
        events.append(Due(sequence, event_id, event_type, body, 0 if events else attempts))
    return found


class Pending(Struct, frozen=True):
    """The queued events of an endpoint, and for how long its oldest failing event has failed."""

    deliveries: int
    failing_seconds: float


async def pending(connection: Any) -> dict[str, Pending]:
    """The queues, by endpoint."""
    rows = await connection.fetch(_PENDING)
    return {row["id"]: Pending(row["pending"], row["failing_seconds"]) for row in rows}
