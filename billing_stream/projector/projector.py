"""The projector: read, decode, write, again and again, whatever becomes of PostgreSQL."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from msgspec import Struct

from billing_stream.projector import gaps, rejects
from billing_stream.projector.changelog_reader import Reader
from billing_stream.projector.database import Database, close
from billing_stream.projector.gaps import Gap
from billing_stream.projector.migrate import migrate_database
from billing_stream.projector.placing import Placing
from billing_stream.projector.projected_records import Record, Records
from billing_stream.projector.projector_errors import (
    AT_ONCE,
    DATABASE_AWAY,
    REFUSED,
    UNFIT,
    PositionsMoved,
    ProjectionError,
    cause_of,
)
from billing_stream.projector.projector_metrics import Metrics
from billing_stream.projector.upsert_batch import Batch, batch_of, ends_of, halves, rejecting
from billing_stream.projector.writing import write

logger = logging.getLogger(__name__)

RECORDS_MAX = 10_000
RECORDS_MIN = 100
WAIT_SECONDS_MIN = 0.25
WAIT_SECONDS_MAX = 5.0
TOLD_SECONDS = 60.0
# A transaction that gave way is tried again, with pauses from the first one doubled each time.
AT_ONCE_TRIES = 6
AT_ONCE_SECONDS = 0.02

Read = Mapping[TopicPartition, Sequence[Record]]


def _never() -> bool:
    return False


class Projector:
    """Projects what a reader reads into one schema."""

    def __init__(
        self,
        database: Database,
        reader: Reader,
        records: Records,
        metrics: Metrics,
        reread: rejects.Reread | None = None,
    ) -> None:
        self._database = database
        self._reader = reader
        self._records = records
        self._metrics = metrics
        self._reread = reread
        self._placing = Placing(reader)
        self._gaps: list[Gap] = []
        self._rejects = 0
        # Whether rejects were written since they were counted.
        self._rejected = False
        self._records_max = RECORDS_MAX
        self._outage: _Outage | None = None
        self._connected_before = False
        self._wait = WAIT_SECONDS_MIN

    @property
    def ready(self) -> bool:
        """Whether PostgreSQL takes rows, and all partitions of this projector are read."""
        return not self.problems()

    def problems(self) -> list[str]:
        """Why this projector does not project all that it should; nothing when it does."""
        found = []
        if self._outage is not None:
            found.append(self._outage.text)
        elif not self._connected_before:
            found.append("PostgreSQL has not been reached yet")
        stopped = self._placing.stopped
        found += [str(gap) for gap in stopped.values()]
        missing = len(self._placing.missing())
        if missing:
            found.append(f"{missing} partitions have no position yet")
        return found

    def warnings(self) -> list[str]:
        """What the projection lacks: open gaps of all projectors, records that fit no table."""
        stopped = set(map(str, self._placing.stopped.values()))
        found = [str(gap) for gap in self._gaps if str(gap) not in stopped]
        if self._rejects:
            found.append(f"{self._rejects} records fit into no table: see projection_rejects")
        return found

    @property
    def stopped(self) -> list[Gap]:
        """Partitions of this projector that are not read until an operator accepts it."""
        return list(self._placing.stopped.values())

    async def run(self, stopping: asyncio.Event, reached: Callable[[], bool] = _never) -> None:
        """Run until stopped, or `reached`; nothing is in flight when this returns.

        Raises ProjectionError for permanent failures, and KafkaError.
        """
        while not stopping.is_set() and not reached():
            try:
                connection = await self._connect()
                try:
                    await self._project(connection, lambda: stopping.is_set() or reached())
                finally:
                    await close(connection)
            except DATABASE_AWAY as error:
                self._note_outage(error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), self._wait)
                self._wait = min(2 * self._wait, WAIT_SECONDS_MAX)

    async def _connect(self) -> Any:
        try:
            await migrate_database(self._database)
            connection = await self._database.connect(writable=True)
        except REFUSED as error:
            if self._connected_before:
                raise
            raise ProjectionError(f"PostgreSQL does not let us in: {error}") from None
        self._connected_before = True
        # What was in flight may or may not have been written: the positions tell.
        self._reader.reset_positions()
        return connection

    async def _project(self, connection: Any, finished: Callable[[], bool]) -> None:
        """Write each batch while the next one is read and decoded."""
        writing: asyncio.Task[None] | None = None
        try:
            while not finished():
                read, begins = await self._reader.read(self._records_max)
                batch = batch_of(self._records, read, begins) if read else None
                if writing is not None:
                    await writing
                    writing = None
                await self._look_after(connection)
                if batch is not None:
                    writing = asyncio.create_task(self._write(connection, batch, read))
                else:
                    self._note_up()
            if writing is not None:
                await writing
        except BaseException:
            if writing is not None:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
            raise

    async def _write(self, connection: Any, batch: Batch, read: Read) -> None:
        began = time.monotonic()
        try:
            await self._written(connection, batch)
            self._rejected |= bool(batch.rejects)
        except PositionsMoved:
            logger.info(
                "stored offsets changed for %s partitions: resuming from them", len(batch.begins)
            )
            self._reader.reset_positions(batch.begins)
            return
        except TimeoutError:
            # Too much at once for a database this slow.
            self._records_max = max(RECORDS_MIN, self._records_max // 4)
            raise
        except UNFIT as error:
            await self._divide(connection, batch, read, error)
            return
        self._records_max = min(RECORDS_MAX, self._records_max + RECORDS_MIN)
        for reject in batch.rejects:
            _tell_reject(reject.record, reject.reason)
        self._metrics.committed(batch, time.monotonic() - began)
        self._reader.stored.update(batch.ends)
        self._note_up()

    async def _divide(self, connection: Any, batch: Batch, read: Read, error: Exception) -> None:
        """Find the record that the database does not take, and put it aside."""
        if batch.records == 1:
            ((tp, (record,)),) = read.items()
            aside = rejecting(record, batch.begins[tp], str(error))
            await self._write(connection, aside, {})
            return
        first, second = halves(read)
        await self._write(connection, batch_of(self._records, first, batch.begins), first)
        begins = {**batch.begins, **ends_of(first)}
        await self._write(connection, batch_of(self._records, second, begins), second)

    async def _written(self, connection: Any, batch: Batch) -> None:
        """Write it, again where it gave way to another transaction."""
        for attempt in range(1, AT_ONCE_TRIES):
            try:
                return await write(connection, batch)
            except AT_ONCE as error:
                self._metrics.failures.labels(type(error).__name__).inc()
                # Not in step with the one that it gave way to.
                pause = AT_ONCE_SECONDS * 2**attempt
                await asyncio.sleep(random.uniform(pause / 2, pause))
        return await write(connection, batch)

    async def _look_after(self, connection: Any) -> None:
        """With nothing in flight: place partitions, retry rejects, count gaps."""
        if await self._placing.keep(connection):
            fitted = await rejects.retry(connection, self._records, self._reread)
            self._metrics.rejects_fixed.inc(fitted)
        elif not self._rejected:
            return
        self._rejected = False
        self._gaps = await gaps.open_gaps(connection)
        self._rejects = await rejects.count(connection)
        self._metrics.incomplete(self._gaps, self._rejects)

    def _note_up(self) -> None:
        """It took what we wrote, or answered while nothing was to be written."""
        self._metrics.database_up.set(1)
        self._wait = WAIT_SECONDS_MIN
        if self._outage is not None:
            logger.info("PostgreSQL is back after %.1f s", time.monotonic() - self._outage.since)
            self._outage = None

    def _note_outage(self, error: BaseException) -> None:
        now = time.monotonic()
        self._metrics.database_up.set(0)
        self._metrics.failures.labels(type(error).__name__).inc()
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        cause = cause_of(error)
        text = f"PostgreSQL {cause} ({detail})"
        if self._outage is None or self._outage.cause != cause:
            since = now if self._outage is None else self._outage.since
            self._outage = _Outage(since, now, cause, text)
            logger.warning("%s: trying until it takes what was not written", text)
        elif now - self._outage.told > TOLD_SECONDS:
            self._outage.told = now
            logger.warning("%s, for %.0f s", text, now - self._outage.since)


class _Outage(Struct):
    since: float
    told: float
    cause: str
    text: str


def _tell_reject(record: Record, reason: str) -> None:
    logger.error(
        "%s[%s]@%s fits into no table and was put into projection_rejects: %s",
        record.topic,
        record.partition,
        record.offset,
        reason,
    )
