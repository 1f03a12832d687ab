"""Brings the schema to the version of this program."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from billing_stream.projector.database import Database
from billing_stream.projector.projector_errors import ProjectionError
from billing_stream.projector.reader_role import grant

logger = logging.getLogger(__name__)

VERSIONS_TABLE = "projection_migrations"
# One for all schemas of a database: Alembic has globals, and cannot do two at a time.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('billing-stream migrate'))"

_FOREIGN = f"""
SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $1
        AND tablename IN ('billing_records', 'credit_purchases'))
    AND NOT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $1
        AND tablename = '{VERSIONS_TABLE}')
"""


async def migrate(
    url: str,
    schema: str = "public",
    reader: str | None = None,
    currency_of_old_rows: str | None = None,
    versions: Path | None = None,
) -> list[str]:
    """Make or upgrade the schema, one process at a time; the versions that were carried out.

    The role `reader` may read it from then on. Purchases that were projected without a currency
    get `currency_of_old_rows`. `versions` is the folder of those of other tables than the
    projection's. Raises ProjectionError when the tables there are of another
    application or newer than this program, or when the role does not exist, and asyncpg's own
    errors when PostgreSQL does not answer.
    """
    database = Database(url, schema)
    await require_ours(database)
    engine = create_async_engine(
        "postgresql+asyncpg://",
        # An index of a large table takes its time.
        async_creator=partial(database.connect, statement_seconds=None, writable=True),
        poolclass=NullPool,
    )
    done: list[str] = []
    try:
        async with engine.begin() as connection:
            await connection.execute(text(_LOCK))
            await connection.run_sync(_make_schema, schema)
            await connection.run_sync(_upgrade, done, currency_of_old_rows, versions)
            if reader is not None:
                await connection.run_sync(grant, schema, reader)
    except DBAPIError as error:
        cause = _asyncpg_error(error)
        if isinstance(cause, asyncpg.UndefinedObjectError) and f'role "{reader}"' in str(cause):
            raise ProjectionError(
                f"BILLING_READER_ROLE: PostgreSQL has no role {reader}. An administrator makes it: "
                f"CREATE ROLE {reader} LOGIN PASSWORD '...'"
            ) from None
        raise cause from error
    finally:
        await engine.dispose()
    if done:
        logger.info("schema %s migrated: %s", schema, ", ".join(done))
    return done


async def migrate_database(database: Database) -> list[str]:
    """As `migrate`, of the projector's own database."""
    return await migrate(
        database.url, database.schema, database.reader, database.currency_of_old_rows
    )


async def require_ours(database: Database) -> None:
    """Raise ProjectionError when tables of our names are another program's: the old service's."""
    async with database.connected(writable=True) as connection:
        foreign = await connection.fetchval(_FOREIGN, database.schema)
    if foreign:
        raise ProjectionError(
            f"schema {database.schema} has tables of the same names that the projector did not "
            "make: point DATABASE_URL to another database, or BILLING_PROJECTION_SCHEMA to "
            "another schema, or move those tables (ALTER TABLE ... SET SCHEMA ...)"
        )


def _make_schema(connection: Connection, schema: str) -> None:
    # IF NOT EXISTS would ask for the right to make it also when it is there.
    found = connection.execute(
        text("SELECT 1 FROM pg_namespace WHERE nspname = :schema"), {"schema": schema}
    )
    if found.first() is None:
        connection.execute(text(f"CREATE SCHEMA {schema}"))


def _upgrade(
    connection: Connection, done: list[str], currency: str | None, versions: Path | None
) -> None:
    config = Config()
    config.set_main_option("script_location", "billing_stream.projector:migrations")
    config.set_main_option("path_separator", "os")
    if versions is not None:
        config.set_main_option("version_locations", str(versions))
    config.attributes["connection"] = connection
    config.attributes["done"] = done
    config.attributes["currency_of_old_rows"] = currency
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ProjectionError(
            f"the schema is of another version than this program ({error}): run the program "
            "that made it, or make it again: billing-stream projector rebuild"
        ) from error


def _asyncpg_error(error: DBAPIError) -> BaseException:
    """The error that asyncpg raised, under two layers of SQLAlchemy's."""
    found: Any = error
    while found is not None and not type(found).__module__.startswith("asyncpg"):
        found = found.__cause__ or getattr(found, "orig", None)
    return found or error
