"""`billing-stream projector`: the parts together, until a signal ends it."""

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime

from aiokafka.errors import KafkaError

from billing_stream.config.listener_settings import Listener
from billing_stream.config.settings import Settings
from billing_stream.errors import SettingsError
from billing_stream.faust_adapter.unfinished import stopped_by_signals
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.kafka_absence import KafkaAbsence
from billing_stream.kafka.old_rows_currency import with_old_currency
from billing_stream.kafka.required_access import require_rights
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_admin import require_topics
from billing_stream.projector import rejects
from billing_stream.projector.changelog_reader import Reader
from billing_stream.projector.database import Database
from billing_stream.projector.health_server import serving
from billing_stream.projector.projected_records import Records
from billing_stream.projector.projector import Projector
from billing_stream.projector.projector_metrics import Metrics
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from billing_stream.web.limits import Connections

logger = logging.getLogger(__name__)

LAG_SECONDS = 2.0
TOLD_SECONDS = 10.0
STOP_SECONDS_MAX = 10.0
STOPPING = "this projector is stopping"
# From the signal to the end: a transaction, what the group is told, and to leave it.
END_SECONDS_MAX = STOP_SECONDS_MAX + 10.0


def database_of(settings: Settings) -> Database:
    """The database and schema to project into. Raises SettingsError."""
    url = settings.database_url.get_secret_value() if settings.database_url is not None else ""
    if not url:
        raise SettingsError("DATABASE_URL: is needed by the projector")
    schema, reader = settings.projection_schema, settings.reader_role
    return Database(url, schema, reader, settings.currency_of_old_rows)


async def require_readable(
    settings: Settings, records: Records, topics: Topics, deadline: StartDeadline
) -> None:
    """Raise TopicsError unless all topics that are read match the settings."""
    read = {*records.topics, topics.name(names.CATALOGUE)}
    wanted = [topic for topic in topics.all() if topic.name in read]
    await require_topics(settings, wanted, deadline)


async def run(settings: Settings) -> None:
    """Project until SIGTERM or SIGINT.

    Raises SettingsError, TopicsError or ProjectionError for permanent failures, and KafkaError.
    """
    topics = Topics(settings.app_id, settings.topic_prefix)
    metrics, deadline = Metrics(), StartDeadline.of(settings)
    database_of(settings)
    await require_readable(settings, Records(topics), topics, deadline)
    settings = await with_old_currency(settings, deadline)
    database, records = database_of(settings), Records(topics, settings.currency_of_old_rows)
    group = settings.projector_group or f"{settings.topic_prefix}{settings.app_id}-projector"
    await require_rights(client_options(settings), group, deadline=deadline)
    reader = Reader.of_group(
        client_options(settings),
        records.topics,
        group,
        int(settings.session_timeout.total_seconds() * 1000),
    )
    reread = rejects.rereading(client_options(settings))
    absence = KafkaAbsence(
        reader.none_answers, "The projector continues by itself when Kafka answers"
    )
    projector = Projector(database, reader, records, metrics, reread)
    stopping = stopped_by_signals(END_SECONDS_MAX)
    await reader.start()
    try:
        async with serving(
            settings.address_of(Listener.INTERNAL).host,
            settings.projector_port,
            Connections(settings.connections_max, settings.header_timeout.total_seconds()),
            metrics.registry,
            lambda: [
                *([STOPPING] if stopping.is_set() else ()),
                *absence.problems(),
                *projector.problems(),
            ],
            projector.warnings,
        ):
            logger.info("projecting %s into schema %s", settings.app_id, database.schema)
            watching = [
                asyncio.create_task(_watch(reader, projector, metrics)),
                asyncio.create_task(absence.watch()),
            ]
            try:
                await _until_stopped(projector, stopping)
            finally:
                for task in watching:
                    task.cancel()
                await asyncio.gather(*watching, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.commit_group_offsets(), LAG_SECONDS)
    finally:
        await reader.stop()
    logger.info("stopped")


async def _until_stopped(projector: Projector, stopping: asyncio.Event) -> None:
    running = asyncio.create_task(projector.run(stopping))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    # A transaction in flight is finished; one that PostgreSQL does not answer is left to it.
    done, _ = await asyncio.wait({running}, timeout=STOP_SECONDS_MAX)
    if not done:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return
    running.result()


async def _watch(reader: Reader, projector: Projector, metrics: Metrics) -> None:
    """Measure the lag, commit the positions to the group, and log how it catches up."""
    began = told = time.monotonic()
    caught_up = False
    while True:
        asked_at = datetime.now(UTC)
        try:
            ends = await reader.ends(reader.assigned())
        except KafkaError as error:
            logger.debug("the lag is not known: %r", error)
        else:
            lags = reader.lag(ends)
            metrics.lags(lags, complete=projector.ready)
            reader.note_complete(lags, asked_at)
            left = sum(lags.values())
            now = time.monotonic()
            if not caught_up and projector.ready and left == 0:
                caught_up = True
                logger.info("up to date, %.0f s after the start", now - began)
            elif not caught_up and now - told >= TOLD_SECONDS:
                told = now
                logger.info("catching up: %s records are left", left)
            await reader.commit_group_offsets()
        await asyncio.sleep(LAG_SECONDS)
