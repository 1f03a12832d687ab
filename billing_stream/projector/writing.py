"""Writes a batch in one transaction: rows, rejected records, positions."""

from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from billing_stream.projector import positions
from billing_stream.projector.projector_errors import PositionsMoved
from billing_stream.projector.statements import STATEMENTS
from billing_stream.projector.upsert_batch import Batch, Reject
from billing_stream.records.record_ref import RecordRef

_REJECT = """
INSERT INTO projection_rejects (topic, partition, "offset", reason, key, value, headers, tried_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, now()) ON CONFLICT DO NOTHING
"""


async def write(connection: Any, batch: Batch) -> None:
    """Write all of it or nothing.

    Raises PositionsMoved, and asyncpg's errors: after one of the connection it is unknown
    whether it was written, and the positions show it.
    """
    transaction = connection.transaction()
    await transaction.start()
    try:
        await _write(connection, batch)
        await transaction.commit()
    except (asyncpg.PostgresError, PositionsMoved):
        if not connection.is_closed():
            await transaction.rollback()
        raise
    except BaseException:
        # Nobody may be there to roll back; the server does when the connection is gone.
        connection.terminate()
        raise


async def _write(connection: Any, batch: Batch) -> None:
    # 1. Be the only one, and where we think to be. A rebuild that is swapped in waits for
    #    this lock too, so that all statements below meet the same tables.
    await positions.lock(connection, batch.begins)
    # 2. Rows.
    await write_rows(connection, batch.rows)
    # 3. What fits nowhere is kept, so that it can be looked into and tried again.
    if batch.rejects:
        await connection.executemany(_REJECT, [_values(reject) for reject in batch.rejects])
    # 4. Positions, in the same transaction: after a crash neither leads.
    await positions.save(connection, batch.ends, batch.last)


async def write_rows(connection: Any, tables: Mapping[str, Mapping[str, Struct | None]]) -> None:
    """Write the rows of each table, by key; None deletes."""
    for table, found in tables.items():
        rows = [astuple(row) for row in found.values() if row is not None]
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            await connection.execute(STATEMENTS[table].write, *columns)
        gone = [key for key, row in found.items() if row is None]
        if gone:
            await connection.execute(STATEMENTS[table].delete, gone)


def _values(reject: Reject) -> tuple[Any, ...]:
    record = reject.record
    headers = msgspec.json.encode(list(record.headers)).decode()
    return *RecordRef.of(record), reason_text(reject.reason), record.key, record.value, headers


def reason_text(reason: str) -> str:
    """A reason as PostgreSQL takes it: it may quote the record, and text there is without NUL."""
    return reason.replace("\0", "\\0").encode("utf-8", "replace").decode()
