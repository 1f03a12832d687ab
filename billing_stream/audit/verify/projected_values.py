"""Rows of the projection as PostgreSQL gives them, and values in the form of the log."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import asyncpg

from billing_stream.audit.verify.log_records import micros
from billing_stream.audit.verify.log_source import VerifyError

_FETCH = 2_000
# PostgreSQL stores no U+0000; the projector writes this in its place.
_NUL_MARK = "\u2400"


def marked(value: Any) -> Any:
    """A text as the projection has it."""
    return value.replace("\0", _NUL_MARK) if isinstance(value, str) else value


@asynccontextmanager
async def reading(database_url: str, schema: str) -> AsyncIterator[Any]:
    """One snapshot of a schema, in which the database allows no writes."""
    try:
        connection = await asyncpg.connect(
            database_url, timeout=10, server_settings={"search_path": schema}
        )
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield connection
        finally:
            await connection.close()
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError) as error:
        # The text of some of these has the address, and so the password, in it.
        raise VerifyError(
            f"PostgreSQL cannot be read ({type(error).__name__}): correct DATABASE_URL, or make it "
            "empty to verify Kafka alone"
        ) from None


async def rows_of(
    connection: Any, table: str, only: str | None
) -> AsyncIterator[Mapping[str, Any]]:
    """All rows of a table, a name in this code; or those of one merchant."""
    query, arguments = f"SELECT * FROM {table}", []
    if only is not None:
        query, arguments = f"{query} WHERE merchant_id::text = $1", [only]
    async for row in connection.cursor(query, *arguments, prefetch=_FETCH):
        yield dict(row)


def plain(name: str, value: Any) -> Any:
    """Values that are equal when the same is meant, whatever types a table gives them."""
    if value is None or isinstance(value, bool | int):
        return value
    if name in ("amount", "refunded_amount"):
        try:
            return Decimal(str(value))
        except InvalidOperation:
            return value
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return micros(aware.isoformat())
    if name.endswith("_at"):
        return micros(str(value))
    return marked(str(value))
