"""`billing-stream projector`."""

import asyncio
import logging
import sys

import click
from aiokafka.errors import KafkaConnectionError, KafkaError

from billing_stream.config.settings import Settings
from billing_stream.console.help import SETTINGS, help_epilog
from billing_stream.errors import EXIT_FATAL, BillingError
from billing_stream.observability.logs import set_up_logging
from billing_stream.projector import service
from billing_stream.projector.migrate import migrate as migrate_schema
from billing_stream.projector.projector_errors import DATABASE_AWAY, ProjectionError
from billing_stream.projector.rebuild import rebuild as rebuild_schema

logger = logging.getLogger("billing_stream.projector")


@click.group(
    invoke_without_command=True,
    epilog=help_epilog(
        environment=SETTINGS,
        exits={
            0: "stopped by a signal",
            2: "wrong settings, topics or tables",
            65: "the rows are of a newer release: run that one",
            70: "a fatal error",
            78: "the consumer group does not accept it; the log says why",
        },
        examples=[
            "DATABASE_URL=postgresql://billing@db/billing billing-stream projector",
            "billing-stream projector rebuild",
        ],
    ),
)
@click.pass_context
def projector(context: click.Context) -> None:
    """Project what is committed in Kafka into PostgreSQL (DATABASE_URL), for reports.

    Without a subcommand it runs until SIGTERM or SIGINT, and waits for a PostgreSQL that is
    away. Start several to share the partitions. Metrics: BILLING_PROJECTOR_PORT/metrics.
    """
    if context.invoked_subcommand is not None:
        return
    settings = Settings.from_env()
    set_up_logging(settings)
    try:
        # Not on uvloop: there, tasks of aiokafka end for good when they write to a connection
        # that was just reset. A worker ends then; this is to outlive a broker.
        asyncio.run(service.run(settings))
    except (BillingError, KafkaConnectionError):
        raise
    except Exception:
        logger.exception("fatal: the projector ends, to be started again")
        sys.exit(EXIT_FATAL)


@projector.command(
    epilog=help_epilog(
        environment=SETTINGS,
        exits={
            0: "done",
            2: "wrong settings or tables, or PostgreSQL does not answer",
        },
        examples=[
            "billing-stream projector migrate",
        ],
    )
)
def migrate() -> None:
    """Make or upgrade the tables, without starting anything. The projector does so itself."""
    settings = Settings.from_env()
    database = service.database_of(settings)
    try:
        done = asyncio.run(migrate_schema(database.url, database.schema))
    except DATABASE_AWAY as error:
        raise ProjectionError(
            f"PostgreSQL cannot be used: {error or type(error).__name__}. Does it run, and is "
            "DATABASE_URL right?"
        ) from None
    click.echo(f"schema {database.schema}: {', '.join(done) or 'nothing to do'}")


@projector.command(
    epilog=help_epilog(
        environment=SETTINGS,
        exits={
            0: "done",
            2: "wrong settings or tables, or PostgreSQL does not answer",
        },
        examples=[
            "billing-stream projector rebuild",
        ],
    )
)
def rebuild() -> None:
    """Make all tables anew from the log beside the live ones, then swap them in.

    Reports and projectors go on meanwhile. Needs room for a second copy; killed half-way, it
    leaves the schema <name>_next behind, which the next rebuild removes.
    """
    settings = Settings.from_env()
    set_up_logging(settings)
    try:
        asyncio.run(rebuild_schema(settings))
    except KafkaConnectionError:
        raise
    except KafkaError as error:
        raise ProjectionError(f"Kafka cannot be read ({error}); try again") from None
