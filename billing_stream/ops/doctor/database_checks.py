"""PostgreSQL, when there is one: it answers, has the projection's schema, and the same time."""

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory

from billing_stream.config.settings import Settings
from billing_stream.kafka.answering_broker import failure_text
from billing_stream.ops.doctor.finding import Finding, Verdict, fail, ok, skip, warn
from billing_stream.projector import gaps, reader_role, rejects
from billing_stream.projector.database import CONNECT_SECONDS_MAX, Database, close
from billing_stream.projector.gaps import Gap
from billing_stream.projector.migrate import VERSIONS_TABLE
from billing_stream.projector.projector_errors import DATABASE_AWAY, ProjectionError
from billing_stream.projector.reader_role import ReaderRights
from billing_stream.projector.service import database_of

SKEW_MAX = timedelta(seconds=5)


async def check_database(settings: Settings) -> AsyncIterator[Finding]:
    """All about it, and the difference of its clock to this machine's."""
    check = "postgresql"
    if settings.database_url is None:
        yield ok(check, "DATABASE_URL is not set: no history and no reports, billing runs without")
        return
    database = database_of(settings)
    try:
        connection = await database.connect()
    except (*DATABASE_AWAY, ProjectionError, OSError) as error:
        yield not_connected(error)
        yield skip(check, ("projection", "database user", "clock"))
        return
    try:
        schema = await _schema(connection, database.schema)
        yield schema
        if schema.verdict is Verdict.OK:
            for finding in of_content(
                await gaps.open_gaps(connection), await rejects.count(connection)
            ):
                yield finding
            async for finding in _reader(connection, database, settings):
                yield finding
        asked = datetime.now(UTC)
        theirs = await connection.fetchval("SELECT clock_timestamp()")
        yield skew(asked + (datetime.now(UTC) - asked) / 2, theirs)
    finally:
        await close(connection)


def not_connected(error: BaseException) -> Finding:
    """Why there is no connection: it is away, or it answers and refuses."""
    without = "billing runs without, history and reports do not"
    text = failure_text(error)
    if isinstance(error, TimeoutError):
        text = f"no answer within {CONNECT_SECONDS_MAX:g} s"
    if isinstance(error, OSError | asyncpg.CannotConnectNowError):
        return fail("postgresql", f"does not answer: {text}", f"start it; {without}")
    return fail("postgresql", f"refuses the connection: {text}", f"fix DATABASE_URL; {without}")


async def _schema(connection: Any, schema: str) -> Finding:
    check = "projection"
    known = [one.revision for one in _scripts().walk_revisions()]
    table = await connection.fetchval("SELECT to_regclass($1)", f"{schema}.{VERSIONS_TABLE}")
    if table is None:
        return warn(
            check, f"schema {schema} has no projection yet", "billing-stream projector makes it"
        )
    version = await connection.fetchval(f"SELECT version_num FROM {schema}.{VERSIONS_TABLE}")
    return of_version(schema, version, known)


def of_version(schema: str, version: str, known: Sequence[str]) -> Finding:
    """The version of a schema compared with those that this program knows, the latest first."""
    check = "projection"
    if version == known[0]:
        return ok(check, f"schema {schema} is of this program's version, {version}")
    if version in known:
        return fail(
            check,
            f"schema {schema} is of version {version}, this program's is {known[0]}",
            "start the projector of this program: it upgrades the schema",
        )
    return fail(
        check,
        f"schema {schema} is of version {version}, which this program does not know",
        "run the program that made it, or: billing-stream projector rebuild",
    )


def of_content(found: Sequence[Gap], kept: int) -> Iterator[Finding]:
    """What the projection lacks: open gaps, and records that fit into no table."""
    for gap in found:
        if gap.kind == gaps.TRIMMED:
            yield warn(
                "projection",
                str(gap),
                "find out who deleted them, then: billing-stream projector accept "
                f"'{gap.ref}' --because ...",
            )
        else:
            yield fail(
                "projection",
                str(gap),
                "billing-stream projector rebuild; or, to keep what the tables have: "
                f"billing-stream projector accept '{gap.ref}' --because ...",
            )
    if kept:
        yield warn(
            "projection",
            f"{kept} records fit into no table",
            "see reason in projection_rejects; upgrade the projector, which tries them again",
        )


def skew(ours: datetime, theirs: datetime) -> Finding:
    """The difference of this machine's clock to another one."""
    apart = ours - theirs
    message = f"{abs(apart.total_seconds()):.1f} s {'before' if apart > timedelta() else 'behind'}"
    if abs(apart) > SKEW_MAX:
        return warn(
            "clock",
            f"this machine is {message} PostgreSQL's: trials end early or late by as much",
            "let a time service set both clocks",
        )
    return ok("clock", "the same as PostgreSQL's")


async def _reader(
    connection: Any, database: Database, settings: Settings
) -> AsyncIterator[Finding]:
    """Whether workers read with a role that can do nothing else."""
    check, user = "database user", await connection.fetchval("SELECT current_user")
    role = database.reader or user
    if not await reader_role.exists(connection, role):
        yield fail(
            check,
            f"PostgreSQL has no role {role}, which BILLING_READER_ROLE names",
            f"as an administrator: CREATE ROLE {role} LOGIN PASSWORD '...'",
        )
        return
    found = await reader_role.rights(connection, database, role)
    for finding in of_reader(role, user, found, settings):
        yield finding


def of_reader(role: str, user: str, found: ReaderRights, settings: Settings) -> Iterator[Finding]:
    """What the role of workers may do. `user`: who we are by DATABASE_URL."""
    check, named = "database user", settings.reader_role is not None
    writes = [*found.writable, *(["new tables"] if found.may_create else [])]
    if named and found.unreadable:
        yield fail(
            check,
            f"{role} may not read {', '.join(found.unreadable)}",
            f"start the projector with BILLING_READER_ROLE={role}: it grants that",
        )
    if writes and named:
        yield warn(
            check,
            f"{role} may write: {', '.join(writes)}; workers need only to read",
            f"revoke what {role} was granted: it may neither own tables nor be a member of owners",
        )
    elif role != user and settings.is_real:
        yield warn(
            check,
            f"this is {user}: right for a projector, too much for a worker",
            f"give workers a DATABASE_URL of {role}",
        )
    elif writes and settings.is_real:
        yield warn(
            check,
            f"{user} may write: {', '.join(writes)}; workers need only to read",
            "set BILLING_READER_ROLE, and give workers a DATABASE_URL of that role: see "
            "`billing-stream docs security`",
        )
    elif named and not found.unreadable:
        yield ok(check, f"{role} may read the projection, and nothing else")


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", "billing_stream.projector:migrations")
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)
