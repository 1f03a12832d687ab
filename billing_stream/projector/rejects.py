"""Records that fit into no table are tried again: after an upgrade or a repair they may fit."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from msgspec import Struct

from billing_stream.kafka.consumers import consuming
from billing_stream.projector.projected_records import Gone, Record, Records, UnprojectableRecord
from billing_stream.projector.projector_errors import AT_ONCE, UNFIT
from billing_stream.projector.upsert_batch import put
from billing_stream.projector.writing import reason_text, write_rows
from billing_stream.records.record_ref import RecordRef

logger = logging.getLogger(__name__)

TRIED_AT_ONCE = 200
READ_AT_ONCE = 20
READ_WAIT_MS = 1_000

_DUE = f"""
SELECT topic, partition, "offset", key, value, headers FROM projection_rejects
WHERE tried_at IS NULL OR tried_at < now() - interval '1 minute'
ORDER BY tried_at NULLS FIRST LIMIT {TRIED_AT_ONCE}
"""
_THIS = 'topic = $1 AND partition = $2 AND "offset" = $3'
_LOCK = f"SELECT 1 FROM projection_rejects WHERE {_THIS} FOR UPDATE SKIP LOCKED"
_FITS = f"DELETE FROM projection_rejects WHERE {_THIS}"
_STILL = f"UPDATE projection_rejects SET reason = $4, tried_at = now() WHERE {_THIS}"
_HEADERS = f"UPDATE projection_rejects SET headers = $4 WHERE {_THIS}"

_headers = msgspec.json.Decoder(list[tuple[str, bytes | None]])

Reread = Callable[[Sequence[RecordRef]], Awaitable[dict[RecordRef, Record | None]]]
"""Reads records from Kafka again: None for one that is gone; those not read in time are left out.

Raises KafkaError.
"""


class Kept(Struct):
    """A record as it was kept. `headers` are missing where an older release kept it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


async def count(connection: Any) -> int:
    """How many records are kept."""
    return int(await connection.fetchval("SELECT count(*) FROM projection_rejects"))


async def retry(connection: Any, records: Records, reread: Reread | None) -> int:
    """Try the ones that were not tried for a minute; how many of them fit now, and were removed.

    Raises asyncpg's errors, but for those of the record.
    """
    due = await connection.fetch(_DUE)
    if reread is not None:
        await _complete(connection, [RecordRef(*row[:3]) for row in due if row[5] is None], reread)
        due = await connection.fetch(_DUE) if any(row[5] is None for row in due) else due
    fitted = 0
    for row in due:
        kept = _kept(row)
        ref = RecordRef.of(kept)
        try:
            async with connection.transaction():
                if await connection.fetchval(_LOCK, *ref) is None:
                    continue
                await _write(connection, records, kept)
                await connection.execute(_FITS, *ref)
            fitted += 1
            logger.info("%s fits now, and was removed from projection_rejects", ref)
        except (UnprojectableRecord, *UNFIT) as error:
            await connection.execute(_STILL, *ref, reason_text(str(error)))
        except AT_ONCE:
            continue
    return fitted


def _kept(row: Any) -> Kept:
    topic, partition, offset, key, value, headers = row
    return Kept(topic, partition, offset, key, value, _headers.decode(headers or "[]"))


async def _write(connection: Any, records: Records, kept: Kept) -> None:
    row = records.decode(kept)
    if isinstance(row, Gone):
        # What was written since would go too.
        raise UnprojectableRecord("a deletion that did not fit is not repeated later")
    rows: dict[str, Struct | None] = {}
    put(rows, row)
    await write_rows(connection, {records.table(kept.topic): rows})


async def _complete(connection: Any, refs: Sequence[RecordRef], reread: Reread) -> None:
    """Add the headers to what an older release kept without them."""
    wanted = refs[:READ_AT_ONCE]
    try:
        found = await reread(wanted) if wanted else {}
    except KafkaError as error:
        logger.debug("rejects were not read again: %r", error)
        return
    for ref, record in found.items():
        headers = list(record.headers) if record is not None else []
        await connection.execute(_HEADERS, *ref, msgspec.json.encode(headers).decode())


def rereading(options: Mapping[str, Any]) -> Reread:
    """Reads from these brokers, without a group."""

    async def reread(refs: Sequence[RecordRef]) -> dict[RecordRef, Record | None]:
        found: dict[RecordRef, Record | None] = {}
        async with consuming(options) as consumer:
            for ref in refs:
                tp = TopicPartition(ref.topic, ref.partition)
                consumer.assign([tp])
                consumer.seek(tp, ref.offset)
                try:
                    answer = await consumer.getmany(tp, timeout_ms=READ_WAIT_MS, max_records=1)
                except OffsetOutOfRangeError:
                    found[ref] = None
                    continue
                for record in answer.get(tp, []):
                    found[ref] = record if record.offset == ref.offset else None
        return found

    return reread
