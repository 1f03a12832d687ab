"""Who delivers, and who writes: two advisory locks of PostgreSQL, per schema."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

# Of a session: it goes with the connection, and so does the right to deliver.
_LEAD = "SELECT pg_try_advisory_lock(hashtext('billing-stream deliver'), hashtext($1))"
# Of a transaction: commands and the process that delivers write one after the other.
_WRITE = """
SELECT pg_advisory_xact_lock(hashtext('billing-stream webhooks'), hashtext(current_schema()))
"""


async def leads(connection: Any, schema: str) -> bool:
    """Whether this connection is the only one that delivers the events of a schema."""
    found: bool = await connection.fetchval(_LEAD, schema)
    return found


@asynccontextmanager
async def written(connection: Any) -> AsyncIterator[None]:
    """A transaction that is the only one that writes to these tables."""
    async with connection.transaction():
        await connection.execute(_WRITE)
        yield
