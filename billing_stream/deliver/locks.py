"""Who delivers, and who writes: two advisory locks of PostgreSQL, per schema."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

# Of a session: it goes with the connection, and so does the right to deliver.
_LEAD = "SELECT pg_try_advisory_lock(hashtext('billing-stream deliver'), hashtext($1))"
# A process that hangs keeps its connection. Servers before version 14 do not have it.
_SILENT = """
SELECT set_config(name, $1, false) FROM pg_settings WHERE name = 'idle_session_timeout'
"""
# Of a transaction: commands and the process that delivers write one after the other.
_WRITE = """
SELECT pg_advisory_xact_lock(hashtext('billing-stream webhooks'), hashtext(current_schema()))
"""


async def leads(connection: Any, schema: str, silent_max: timedelta) -> bool:
    """Whether this connection is the only one that delivers the events of a schema.

    It is closed by PostgreSQL, with the lock, when its process is silent for `silent_max`.
    """
    if not await connection.fetchval(_LEAD, schema):
        return False
    await connection.execute(_SILENT, f"{silent_max // timedelta(milliseconds=1)}ms")
    return True


@asynccontextmanager
async def written(connection: Any) -> AsyncIterator[None]:
    """A transaction that is the only one that writes to these tables."""
    async with connection.transaction():
        await connection.execute(_WRITE)
        yield
