"""Connections to PostgreSQL, and the schema that they work in."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from msgspec import Struct

from billing_stream.projector.projector_errors import DATABASE_AWAY, ProjectionError

CONNECT_SECONDS_MAX = 10.0
STATEMENT_SECONDS_MAX = 15.0

SETTINGS = {
    "application_name": "billing-stream projector",
    "TimeZone": "UTC",
    # Rows and positions are lost together, if at all, and then read again.
    "synchronous_commit": "off",
    # A session whose client was cut off holds locks that our next session needs.
    "idle_in_transaction_session_timeout": "15s",
    "lock_timeout": "10s",
    "tcp_user_timeout": "15s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    # Compiling statements this short costs more than it saves.
    "jit": "off",
}


class Database(Struct, frozen=True):
    """One schema of one database. `url` is a secret: it has the password in it.

    `reader` is the role that the owner lets read it. `currency_of_old_rows` is that of purchases
    that were projected without one.
    """

    url: str
    schema: str
    reader: str | None = None
    currency_of_old_rows: str | None = None

    async def connect(
        self, statement_seconds: float | None = STATEMENT_SECONDS_MAX, *, writable: bool = False
    ) -> Any:
        """A connection in which unqualified names are those of the schema.

                A statement is given up after `statement_seconds`. `writable`: to the one of several
                servers in the address that takes writes. Raises ProjectionError when the address
        is not one, and asyncpg's errors.
        """
        try:
            return await asyncpg.connect(
                self.url,
                timeout=CONNECT_SECONDS_MAX,
                command_timeout=statement_seconds,
                server_settings={**SETTINGS, "search_path": self.schema},
                **({"target_session_attrs": "read-write"} if writable else {}),
            )
        except ssl.SSLError:
            # A ValueError too, when a certificate is not trusted; the address is good.
            raise
        except ValueError:
            # Its text may have the address, and so the password, in it.
            raise ProjectionError(
                "DATABASE_URL is not an address like postgresql://user:password@host:5432/database"
            ) from None

    def beside(self, suffix: str) -> "Database":
        """The schema `<name>_<suffix>` of the same database."""
        return Database(self.url, f"{self.schema}_{suffix}", self.reader, self.currency_of_old_rows)

    @asynccontextmanager
    async def connected(self, *, writable: bool = False) -> AsyncIterator[Any]:
        """As `connect`; the connection is closed at the end."""
        connection = await self.connect(writable=writable)
        try:
            yield connection
        finally:
            await close(connection)


async def close(connection: Any) -> None:
    """Close it; one that does not answer is dropped."""
    try:
        await connection.close(timeout=1)
    except DATABASE_AWAY:
        connection.terminate()
