"""The old service's two tables, merchant by merchant, as they are in one snapshot.

Every column is read as text, whatever its type: so no value can be one that a driver refuses,
and a table with text in place of an enum or of numbers is read alike.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg

from billing_stream.migration.migration_errors import ImportFailed

RECORDS = "billing_records"
PURCHASES = "credit_purchases"
COLUMNS = {
    RECORDS: (
        "merchant_id",
        "trial_available",
        "trial_started_at",
        "trial_ends_at",
        "total_credits_purchased",
        "last_purchase_at",
        "created_at",
        "updated_at",
    ),
    PURCHASES: (
        "id",
        "merchant_id",
        "credits",
        "amount",
        "status",
        "platform",
        "platform_charge_id",
        "created_at",
        "completed_at",
        "expires_at",
    ),
}
# The last tells rows apart that nothing else does: each read gives them in one order.
_ORDER = {RECORDS: "created_at, ctid", PURCHASES: "created_at, id, ctid"}
_KEY = 'lower(btrim(merchant_id::text)) COLLATE "C"'
_FETCH = 5_000
_CONNECT_SECONDS_MAX = 20
_CLOSE_SECONDS_MAX = 5

Row = Mapping[str, Any]
"""A row: each column as text or None, and `key`, by which rows are of one merchant."""


class Group(NamedTuple):
    """All rows of one merchant; `key` is its id in lower case, None where it is missing."""

    key: str | None
    records: list[Row]
    purchases: list[Row]


class OldDatabase:
    """An open snapshot; made by `reading`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def identity(self) -> str:
        """Names the database, wherever it is reached: server and database."""
        query = (
            "SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || "
            "(SELECT oid FROM pg_database WHERE datname = current_database())::text"
        )
        try:
            async with self._connection.transaction():
                return str(await self._connection.fetchval(query))
        except asyncpg.PostgresError:
            # Not every role may ask.
            query = "SELECT current_setting('port') || '/' || current_database()"
            return str(await self._connection.fetchval(query))

    async def count(self, table: str) -> int:
        """How many rows a table has."""
        return int(await self._connection.fetchval(f"SELECT count(*) FROM {table}"))

    async def naive_columns(self) -> list[str]:
        """The columns of times that have no time zone: they are read as UTC."""
        query = (
            "SELECT attrelid::regclass || '.' || attname FROM pg_attribute "
            "WHERE attrelid IN (to_regclass($1), to_regclass($2)) AND NOT attisdropped "
            "AND atttypid = 'timestamp'::regtype ORDER BY 1"
        )
        return [row[0] for row in await self._connection.fetch(query, RECORDS, PURCHASES)]

    async def shared_charge_ids(self) -> int:
        """The number of charges with more than one merchant."""
        query = (
            "SELECT count(*) FROM (SELECT 1 FROM credit_purchases "
            "WHERE btrim(platform_charge_id::text) <> '' GROUP BY btrim(platform_charge_id::text) "
            "HAVING count(DISTINCT lower(btrim(merchant_id::text))) > 1) AS shared"
        )
        return int(await self._connection.fetchval(query))

    async def duplicate_purchase_ids(self) -> frozenset[str]:
        """Purchase ids that more than one row has: where the primary key is missing."""
        query = (
            "SELECT lower(btrim(id::text)) FROM credit_purchases WHERE id IS NOT NULL "
            "GROUP BY 1 HAVING count(*) > 1"
        )
        return frozenset(row[0] for row in await self._connection.fetch(query))

    async def groups(self) -> AsyncIterator[Group]:
        """Every merchant with its rows, in the order of the ids; rows without one come last."""
        records = _grouped(self._rows(RECORDS))
        purchases = _grouped(self._rows(PURCHASES))
        left, right = await anext(records, None), await anext(purchases, None)
        while left is not None or right is not None:
            key = min(_rank(side[0]) for side in (left, right) if side is not None)
            group = Group(key[1] if key[0] == 0 else None, [], [])
            if left is not None and _rank(left[0]) == key:
                group.records.extend(left[1])
                left = await anext(records, None)
            if right is not None and _rank(right[0]) == key:
                group.purchases.extend(right[1])
                right = await anext(purchases, None)
            yield group

    async def _rows(self, table: str) -> AsyncIterator[Row]:
        # The names are constants of ours, no one's input.
        columns = ", ".join(f"{name}::text AS {name}" for name in COLUMNS[table])
        query = (
            f"SELECT {_KEY} AS key, {columns} FROM {table} "
            f"ORDER BY {_KEY} NULLS LAST, {_ORDER[table]}"
        )
        cursor = await self._connection.cursor(query)
        while rows := await cursor.fetch(_FETCH):
            for row in rows:
                yield row


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[OldDatabase]:
    """One read-only snapshot. Raises ImportFailed when it cannot be read."""
    connection = await _connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute("SET LOCAL TIME ZONE 'UTC'; SET LOCAL datestyle = 'ISO'")
            await _require_tables(connection)
            yield OldDatabase(connection)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ImportFailed(f"the old database cannot be read: {error}") from error
    finally:
        await connection.close(timeout=_CLOSE_SECONDS_MAX)


async def _connect(url: str) -> Any:
    try:
        return await asyncpg.connect(url, timeout=_CONNECT_SECONDS_MAX)
    except (
        OSError,
        TimeoutError,
        ValueError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
    ) as error:
        # The text of some of these has the address, and so the password, in it.
        raise ImportFailed(
            f"the old database cannot be reached ({type(error).__name__}): is the address of "
            "--from right, postgresql://user:password@host:port/database?"
        ) from None


async def _require_tables(connection: Any) -> None:
    ours = await connection.fetchval(
        "SELECT count(*) FROM pg_class AS mine JOIN pg_class AS theirs "
        "ON mine.relnamespace = theirs.relnamespace "
        "WHERE theirs.oid = to_regclass($1) AND mine.relname = 'projection_positions'",
        RECORDS,
    )
    if ours:
        raise ImportFailed(
            "the tables of --from are this service's own projection, not the old service's: "
            "give the address of the old database"
        )
    problems = []
    for table, wanted in COLUMNS.items():
        found = await connection.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0",
            table,
        )
        missing = sorted(set(wanted) - {row[0] for row in found})
        if not found:
            problems.append(f"there is no table {table}")
        elif missing:
            problems.append(f"{table} has no column {', '.join(missing)}")
    if problems:
        raise ImportFailed(
            f"--from is not a database of the old service: {'; '.join(problems)} "
            "(another schema? add ?options=-csearch_path%3Dname to the address)"
        )


async def _grouped(rows: AsyncIterator[Row]) -> AsyncIterator[tuple[str | None, list[Row]]]:
    key, group = None, list[Row]()
    async for row in rows:
        if group and row["key"] != key:
            yield key, group
            group = []
        key = row["key"]
        group.append(row)
    if group:
        yield key, group


def _rank(key: str | None) -> tuple[int, str]:
    return (1, "") if key is None else (0, key)
