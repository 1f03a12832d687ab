"""`projector rebuild`: a fresh schema next to the live one, then swapped in."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
from aiokafka import TopicPartition

from billing_stream.config.settings import Settings
from billing_stream.console.output import say
from billing_stream.console.progress import progress
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.old_rows_currency import with_old_currency
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.projector import gaps
from billing_stream.projector.changelog_reader import Reader
from billing_stream.projector.database import Database
from billing_stream.projector.migrate import VERSIONS_TABLE, migrate_database, require_ours
from billing_stream.projector.projected_records import Records
from billing_stream.projector.projector import Projector
from billing_stream.projector.projector_errors import DATABASE_AWAY, ProjectionError
from billing_stream.projector.projector_metrics import Metrics
from billing_stream.projector.service import database_of, require_readable
from billing_stream.projector.swap import require_movable, swap
from billing_stream.records.topics import Topics

# What came meanwhile is read too, until so little is left that projectors have it in a moment.
LEFT_MAX = 1_000
ROUNDS_MAX = 5
PROGRESS_SECONDS = 0.2
_ALONE = "SELECT pg_try_advisory_lock(hashtext('billing-stream rebuild'), hashtext($1))"


async def rebuild(settings: Settings, *, by: str, because: str | None) -> None:
    """Build, then swap. Raises ProjectionError (no row was changed then), and KafkaError.

    Where Kafka has lost records, only with a reason (`because`): the new tables lack them.
    """
    database_of(settings)
    topics, deadline = Topics(settings.app_id, settings.topic_prefix), StartDeadline.of(settings)
    await require_readable(settings, Records(topics), topics, deadline)
    settings = await with_old_currency(settings, deadline)
    records, live = Records(topics, settings.currency_of_old_rows), database_of(settings)
    fresh = live.beside("next")
    partitions = range(settings.partitions)
    tps = [TopicPartition(topic, number) for topic in records.topics for number in partitions]
    began = time.monotonic()
    try:
        async with _alone(live) as connection:
            # The live tables need not be of this program's version.
            await require_ours(live)
            await _upgrade(connection, live)
            await require_movable(connection, live.schema)
            await connection.execute(f"DROP SCHEMA IF EXISTS {fresh.schema} CASCADE")
            reader = Reader.of_all(client_options(settings), tps)
            await reader.start()
            try:
                metrics = Metrics()
                projector = Projector(fresh, reader, records, metrics)
                await _fill(projector, reader, tps)
            finally:
                await reader.stop()
        await _accept_gaps(fresh, by, because)
        # By now the first connection may have been lost, and the lock with it.
        async with _alone(live) as connection:
            await swap(connection, live.schema, fresh.schema)
    except DATABASE_AWAY as error:
        raise ProjectionError(
            f"PostgreSQL cannot be used ({error or type(error).__name__}). Does it run, and is "
            "DATABASE_URL right? The live tables are as they were: try again"
        ) from None
    read = metrics.registry.get_sample_value("billing_projector_records_total") or 0
    say(
        f"schema {live.schema} was rebuilt from {read:,.0f} records "
        f"in {time.monotonic() - began:.1f} s"
    )


async def _fill(projector: Projector, reader: Reader, tps: list[TopicPartition]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    for _ in range(ROUNDS_MAX):
        ends = await reader.ends(tps)
        left = sum(reader.lag(ends).values())
        if reader.stored and left <= LEFT_MAX:
            return
        reached = partial(_reached, projector, reader, ends)
        bar = asyncio.create_task(_show(reader, ends, left))
        try:
            await projector.run(stopping, reached)
        finally:
            bar.cancel()
            await asyncio.gather(bar, return_exceptions=True)
        if stopping.is_set():
            raise ProjectionError("stopped: the live tables are as they were")
        if projector.stopped:
            raise ProjectionError(f"{projector.stopped[0]}, during the rebuild: try again")


async def _upgrade(connection: Any, live: Database) -> None:
    """Widen the columns of live tables of an older version: views on them could not be kept."""
    if await connection.fetchval("SELECT to_regclass($1)", VERSIONS_TABLE) is not None:
        # Damaged ones, and those of a newer version, are replaced as they are.
        with contextlib.suppress(ProjectionError, asyncpg.PostgresError):
            await migrate_database(live)


async def _accept_gaps(fresh: Database, by: str, because: str | None) -> None:
    async with fresh.connected() as connection:
        found = await gaps.open_gaps(connection)
        if found and because is None:
            await connection.execute(f"DROP SCHEMA {fresh.schema} CASCADE")
            raise ProjectionError(
                f"{len(found)} gaps: {found[0]}. Rebuilt tables would lack them; the live tables "
                "may have them, and are as they were. To replace them all the same: "
                "billing-stream projector rebuild --because REASON"
            )
        await gaps.accept(connection, None, by=by, reason=because or "")


def _reached(projector: Projector, reader: Reader, ends: dict[TopicPartition, int]) -> bool:
    return bool(projector.stopped) or (bool(reader.stored) and not any(reader.lag(ends).values()))


async def _show(reader: Reader, ends: dict[TopicPartition, int], total: int) -> None:
    with progress() as show:
        while True:
            show("projecting", total - sum(reader.lag(ends).values()), total)
            await asyncio.sleep(PROGRESS_SECONDS)


@asynccontextmanager
async def _alone(live: Database) -> AsyncIterator[Any]:
    """A connection; its holder is the only one that rebuilds this schema."""
    async with live.connected() as connection:
        if not await connection.fetchval(_ALONE, live.schema):
            raise ProjectionError(f"schema {live.schema} is being rebuilt already")
        yield connection
