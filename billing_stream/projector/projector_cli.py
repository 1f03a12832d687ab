"""`billing-stream projector`."""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import click
from aiokafka.errors import KafkaConnectionError, KafkaError

from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.config.settings import Settings
from billing_stream.console.help import help_epilog
from billing_stream.console.options import whoami
from billing_stream.console.output import say
from billing_stream.console.record_argument import Reference
from billing_stream.errors import EXIT_FATAL, BillingError
from billing_stream.observability.logs import set_up_logging
from billing_stream.projector import gaps as gap_table
from billing_stream.projector import rejects, service
from billing_stream.projector.database import Database
from billing_stream.projector.migrate import migrate_database
from billing_stream.projector.projector_errors import DATABASE_AWAY, ProjectionError
from billing_stream.projector.rebuild import rebuild as rebuild_schema
from billing_stream.records.record_ref import RecordRef

logger = logging.getLogger("billing_stream.projector")

EXIT_GAPS = 1
T = TypeVar("T")


@click.group(
    invoke_without_command=True,
    epilog=help_epilog(
        {
            0: "stopped by a signal",
            2: "wrong settings, topics or tables",
            65: "the rows are of a newer release: run that one",
            70: "a fatal error",
            78: "the consumer group does not accept it; the log says why",
        },
        "DATABASE_URL=postgresql://billing@db/billing billing-stream projector",
        "billing-stream projector rebuild",
    ),
)
@click.pass_context
def projector(context: click.Context) -> None:
    """Project the committed log of Kafka into PostgreSQL (DATABASE_URL), for reports.

    Without a subcommand it runs until SIGTERM or SIGINT, and waits for a PostgreSQL that is
    away. Start several to share the partitions. Metrics: BILLING_PROJECTOR_PORT/metrics.
    """
    if context.invoked_subcommand is not None:
        return
    run_service(service.run, logger, "projector")


@projector.command(
    epilog=help_epilog(
        {0: "done", 2: "wrong settings or tables, or PostgreSQL does not answer"},
        "billing-stream projector migrate",
    )
)
def migrate() -> None:
    """Make or upgrade the tables, without starting anything. The projector does so itself."""
    settings = BackgroundSettings.from_env()
    database = service.database_of(settings)
    done = run_on_database(migrate_database(database))
    say(f"schema {database.schema}: {', '.join(done) or 'nothing to do'}")


@projector.command(
    epilog=help_epilog(
        {0: "done", 2: "wrong settings or tables, or PostgreSQL does not answer"},
        "billing-stream projector rebuild",
        'billing-stream projector rebuild --because "INC-7: May is gone"',
    )
)
@click.option("--because", help="Replace the tables though Kafka has lost records: why.")
@click.option("--by", default=whoami, show_default="user@host", help="Who does it.")
def rebuild(because: str | None, by: str) -> None:
    """Rebuild all tables from the log next to the live ones, then swap them in.

    Reports and projectors continue. Needs room for a second copy; killed half-way, it
    leaves the schema <name>_next behind, which the next rebuild removes. Where Kafka has lost
    records, the live tables may have more than a rebuild finds: it changes nothing without
    --because.
    """
    settings = BackgroundSettings.from_env()
    set_up_logging(settings)
    try:
        asyncio.run(rebuild_schema(settings, by=by, because=because))
    except KafkaConnectionError:
        raise
    except KafkaError as error:
        raise ProjectionError(f"Kafka cannot be read ({error}); try again") from None


@projector.command(
    epilog=help_epilog(
        {
            0: "the projection is complete",
            1: "it is not: each gap is named",
            2: "wrong settings, or PostgreSQL does not answer",
        },
        "billing-stream projector gaps",
    )
)
def gaps() -> None:
    """List the gaps of the projection that are not accepted, and count rejected records."""
    database = service.database_of(BackgroundSettings.from_env())
    found, kept = run_on_database(_incomplete(database))
    for gap in found:
        say(f"{gap.ref}  {gap.kind}: {gap}")
    if kept:
        say(f"{kept} records fit into no table: see projection_rejects")
    if found or kept:
        sys.exit(EXIT_GAPS)
    say("no gaps")


@projector.command(
    epilog=help_epilog(
        {0: "accepted", 2: "wrong settings, no such gap, or PostgreSQL does not answer"},
        'billing-stream projector accept --all --because "INC-7: known since May"',
    )
)
@click.argument("refs", nargs=-1, type=Reference(), metavar="[TOPIC[PARTITION]@OFFSET]...")
@click.option("--all", "every", is_flag=True, help="All open gaps.")
@click.option("--because", required=True, help="Why: kept with the gap.")
@click.option("--by", default=whoami, show_default="user@host", help="Who does it.")
def accept(refs: tuple[RecordRef, ...], every: bool, because: str, by: str) -> None:
    """Accept gaps of the projection, by their first offsets as `projector gaps` lists them.

    A gap of deleted records is no longer reported. A stopped partition is read again from the
    beginning of its log; rows and events that are there already change nothing.
    """
    if every == bool(refs):
        raise click.UsageError("name gaps, or give --all")
    database = service.database_of(BackgroundSettings.from_env())
    accepted = run_on_database(_accept(database, None if every else refs, by, because))
    if every and not accepted:
        say("there are no open gaps")
    for gap in accepted:
        say(f"accepted: {gap}")
    missing = set(refs) - {gap.ref for gap in accepted}
    if missing:
        listed = ", ".join(sorted(map(str, missing)))
        raise ProjectionError(
            f"there is no open gap at {listed}: see billing-stream projector gaps"
        )


async def _incomplete(database: Database) -> tuple[list[gap_table.Gap], int]:
    async with database.connected() as connection:
        return await gap_table.open_gaps(connection), await rejects.count(connection)


async def _accept(
    database: Database, refs: Sequence[RecordRef] | None, by: str, because: str
) -> list[gap_table.Gap]:
    async with database.connected(writable=True) as connection:
        return await gap_table.accept(connection, refs, by=by, reason=because)


def run_service(
    run: Callable[[Settings], Coroutine[Any, Any, None]],
    logger: logging.Logger,
    name: str,
) -> None:
    """Run a process until a signal; an unexpected error ends it with EXIT_FATAL."""
    settings = BackgroundSettings.from_env()
    set_up_logging(settings)
    try:
        # Not on uvloop: there, tasks of aiokafka end for good when they write to a connection
        # that was just reset. A worker ends then; this is to outlive a broker.
        asyncio.run(run(settings))
    except (BillingError, KafkaConnectionError):
        raise
    except Exception:
        logger.exception("fatal: the %s ends, to be started again", name)
        sys.exit(EXIT_FATAL)


def run_on_database(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. Raises ProjectionError where PostgreSQL cannot be used."""
    try:
        return asyncio.run(work)
    except DATABASE_AWAY as error:
        raise ProjectionError(
            f"PostgreSQL cannot be used: {error or type(error).__name__}. Does it run, and is "
            "DATABASE_URL right?"
        ) from None
