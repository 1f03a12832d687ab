"""The role that workers read the projection with: it can do nothing else.

An administrator makes it, with its password. The projector, which owns the tables, lets it read.
"""

from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, text

from billing_stream.projector.database import Database

RELATIONS = (
    "billing_events",
    "billing_history",
    "billing_records",
    "billing_revenue_daily",
    "billing_trial_conversion",
    "credit_purchases",
    "projection_gaps",
    "projection_migrations",
    "projection_positions",
    "projection_rejects",
)

_WRITES = "INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
_COLUMNS = "INSERT, UPDATE, REFERENCES"
_RIGHTS = f"""
SELECT c.relname AS name,
    has_schema_privilege($1, n.oid, 'USAGE')
        AND has_table_privilege($1, c.oid, 'SELECT') AS readable,
    has_table_privilege($1, c.oid, '{_WRITES}') OR has_any_column_privilege($1, c.oid, '{_COLUMNS}')
        OR pg_has_role($1, c.relowner, 'MEMBER') AS writable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $2 AND c.relname = ANY($3) AND c.relkind IN ('r', 'v')
ORDER BY c.relname
"""


class ReaderRights(Struct, frozen=True):
    """What a role may do with the projection: relations by name."""

    unreadable: list[str]
    writable: list[str]
    may_create: bool


def grant(connection: Connection, schema: str, role: str) -> None:
    """Let the role read all of a projection, and no other table of the schema."""
    relations = ", ".join(f'{schema}."{name}"' for name in RELATIONS)
    connection.execute(text(f'GRANT USAGE ON SCHEMA {schema} TO "{role}"'))
    connection.execute(text(f'GRANT SELECT ON {relations} TO "{role}"'))


async def exists(connection: Any, role: str) -> bool:
    """Whether PostgreSQL has the role."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)", role
    )
    return found


async def rights(connection: Any, database: Database, role: str) -> ReaderRights:
    """What a role that exists may do with a projection that is there."""
    found = await connection.fetch(_RIGHTS, role, database.schema, list(RELATIONS))
    return ReaderRights(
        [row["name"] for row in found if not row["readable"]],
        [row["name"] for row in found if row["writable"]],
        await connection.fetchval(
            "SELECT has_schema_privilege($1, $2, 'CREATE')", role, database.schema
        ),
    )
