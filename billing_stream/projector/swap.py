"""Puts the relations of one schema into the place of another's, in one transaction."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
from msgspec import Struct

from billing_stream.projector.projector_errors import ProjectionError

# Less than PostgreSQL's deadlock_timeout of 1 s: it is we who give way to a report.
LOCK_TIMEOUT = "500ms"
TRIES = 120
PAUSE_SECONDS = 1.0

_RELATIONS = """
SELECT c.relname AS name, c.relkind = 'v' AS is_view
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'v')
ORDER BY c.relname <> 'projection_positions', c.relname
"""
_OTHERS = """
SELECT DISTINCT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
    pg_get_viewdef(c.oid) AS definition, c.reloptions AS options
FROM pg_depend d
JOIN pg_rewrite w ON w.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class c ON c.oid = w.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class ours ON ours.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
JOIN pg_namespace live ON live.oid = ours.relnamespace
WHERE live.nspname = $1 AND ours.relname = ANY($2)
    AND NOT (n.nspname = $1 AND c.relname = ANY($2))
ORDER BY schema, name
"""
_RIGHTS = """
SELECT format('ALTER TABLE %I.%I OWNER TO %I', n.nspname, c.relname, pg_get_userbyid(c.relowner))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY($2) AND pg_get_userbyid(c.relowner) <> current_user
UNION ALL
SELECT format('GRANT %s%s ON %I.%I TO %s%s', a.privilege_type, ' (' || quote_ident(a.name) || ')',
    n.nspname, c.relname,
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT NULL::name AS name, t.* FROM aclexplode(c.relacl) t
    UNION ALL
    SELECT k.attname, t.* FROM pg_attribute k CROSS JOIN aclexplode(k.attacl) t
    WHERE k.attrelid = c.oid
) a
WHERE n.nspname = $1 AND c.relname = ANY($2) AND a.grantee <> c.relowner
"""


class DependentView(Struct, frozen=True):
    """A view, of someone's own, on our tables."""

    schema: str
    name: str
    kind: str
    definition: str
    options: list[str] | None

    @property
    def movable(self) -> bool:
        """Whether it can be laid over other tables in its place."""
        return self.kind == "v"

    def statement(self) -> str:
        """What lays it over the tables that have their names now."""
        options = f" WITH ({', '.join(self.options)})" if self.options else ""
        return f'CREATE OR REPLACE VIEW "{self.schema}"."{self.name}"{options} AS {self.definition}'


async def require_movable(connection: Any, live: str) -> None:
    """Raise ProjectionError when something hangs on the live tables that a swap would lose."""
    names = [row["name"] for row in await connection.fetch(_RELATIONS, live)]
    fixed = [o for o in await _others(connection, live, names) if not o.movable]
    if fixed:
        listed = ", ".join(f"{other.schema}.{other.name}" for other in fixed)
        raise ProjectionError(
            f"materialized views depend on the tables of schema {live} and would keep the old "
            f"ones: {listed}. Drop them, rebuild, and create them again"
        )


async def swap(connection: Any, live: str, fresh: str) -> None:
    """Put all relations of `fresh` into `live`, with the rights, and under the views, of the old.

    The old ones are dropped, and so is the schema `fresh`. A report that runs is waited for,
    others do not wait for us longer than half a second. Raises ProjectionError when
    something else depends on the old ones, or when there was no moment for it in minutes.
    """
    for _ in range(TRIES):
        try:
            async with connection.transaction():
                await _swap(connection, live, fresh)
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(PAUSE_SECONDS)
        except asyncpg.DependentObjectsStillExistError as error:
            raise ProjectionError(f"nothing was swapped: {error}; {error.detail}") from None
    raise ProjectionError(
        f"nothing was swapped: for {TRIES} tries the tables of schema {live} were in use by "
        "long transactions (see pg_stat_activity); try again when they have ended"
    )


async def _swap(connection: Any, live: str, fresh: str) -> None:
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    # So that definitions of views name their schemas.
    await connection.execute("SET LOCAL search_path = pg_catalog")
    # 1. Nobody reads or writes. Positions first, as the projectors do.
    coming = await connection.fetch(_RELATIONS, fresh)
    names = [row["name"] for row in coming]
    going = [row for row in await connection.fetch(_RELATIONS, live) if row["name"] in names]
    await _lock(connection, live, going)
    # 2. What must be the same afterwards.
    rights = [row[0] for row in await connection.fetch(_RIGHTS, live, names)]
    others = [other for other in await _others(connection, live, names) if other.movable]
    # 3. The old ones out, the new ones in.
    old = f"{live}_old"
    await connection.execute(f"CREATE SCHEMA {old}")
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {live}")
    await _move(connection, going, live, old)
    await _move(connection, coming, fresh, live)
    for statement in (*rights, *(other.statement() for other in others)):
        await connection.execute(statement)
    # 4. Without CASCADE: what still depends on the old ones stops all of it.
    for kind, is_view in (("VIEW", True), ("TABLE", False)):
        listed = ", ".join(f'{old}."{row["name"]}"' for row in going if row["is_view"] is is_view)
        if listed:
            await connection.execute(f"DROP {kind} {listed}")
    await connection.execute(f"DROP SCHEMA {old}")
    await connection.execute(f"DROP SCHEMA {fresh}")


async def _lock(connection: Any, schema: str, relations: Sequence[Any]) -> None:
    tables = ", ".join(f'{schema}."{row["name"]}"' for row in relations if not row["is_view"])
    if tables:
        await connection.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")


async def _move(connection: Any, relations: Sequence[Any], source: str, target: str) -> None:
    for row in relations:
        kind = "VIEW" if row["is_view"] else "TABLE"
        await connection.execute(f'ALTER {kind} {source}."{row["name"]}" SET SCHEMA {target}')


async def _others(connection: Any, live: str, names: list[str]) -> list[DependentView]:
    return [DependentView(**dict(row)) for row in await connection.fetch(_OTHERS, live, names)]
