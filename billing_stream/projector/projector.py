"""The projector: read, decode, write, again and again, whatever becomes of PostgreSQL."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from billing_stream.projector import positions
from billing_stream.projector.changelog_reader import Reader, another_log
from billing_stream.projector.database import Database, close
from billing_stream.projector.migrate import migrate
from billing_stream.projector.projected_records import Record, Records
from billing_stream.projector.projector_errors import (
    DATABASE_AWAY,
    REFUSED,
    UNFIT,
    PositionsMoved,
    ProjectionError,
)
from billing_stream.projector.projector_metrics import Metrics
from billing_stream.projector.upsert_batch import (
    Batch,
    batch_of,
    ends_of,
    halves,
    rejecting,
)
from billing_stream.projector.writing import write

logger = logging.getLogger(__name__)

RECORDS_MAX = 10_000
RECORDS_MIN = 100
CHECK_SECONDS = 2.0
WAIT_SECONDS_MIN = 0.25
WAIT_SECONDS_MAX = 5.0
TOLD_SECONDS = 60.0

Read = Mapping[TopicPartition, Sequence[Record]]


def _never() -> bool:
    return False


class Projector:
    """Projects what a reader reads into one schema."""

    def __init__(
        self, database: Database, reader: Reader, records: Records, metrics: Metrics
    ) -> None:
        self._database = database
        self._reader = reader
        self._records = records
        self._metrics = metrics
        self._records_max = RECORDS_MAX
        self._outage: _Outage | None = None
        self._connected_before = False
        self._checked = 0.0
        self._wait = WAIT_SECONDS_MIN

    @property
    def ready(self) -> bool:
        """Whether PostgreSQL is there, and partitions are being read (if any are ours)."""
        return self._connected_before and self._outage is None and not self._reader.unpositioned()

    async def run(self, stopping: asyncio.Event, reached: Callable[[], bool] = _never) -> None:
        """Go on until told to stop, or `reached`; nothing is in flight when this returns.

        Raises ProjectionError for what no waiting mends, and KafkaError.
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
            await migrate(self._database.url, self._database.schema)
            connection = await self._database.connect()
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
                await self._keep_places(connection)
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
            await write(connection, batch)
        except PositionsMoved:
            logger.info("%s partitions stand elsewhere now: reading on there", len(batch.begins))
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

    async def _keep_places(self, connection: Any) -> None:
        """With nothing in flight: place what is new, and see that the rest stands as we think.

        It does not when a rebuild was swapped in, and may not when partitions wandered.
        """
        reader = self._reader
        new = reader.unpositioned()
        if new:
            await positions.add(connection, new)
            found = await positions.load(connection, new)
            ends = await reader.ends(found)
            for tp, offset in found.items():
                if offset > ends[tp]:
                    raise another_log(tp)
            reader.seek(found)
        elif time.monotonic() - self._checked > CHECK_SECONDS:
            self._checked = time.monotonic()
            known = {tp: reader.stored[tp] for tp in reader.placed}
            found = await positions.load(connection, known)
            reader.reset_positions(tp for tp in known if found.get(tp) != known[tp])

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
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        if self._outage is None:
            self._outage = _Outage(now)
            logger.warning("PostgreSQL is away (%s): trying until it is back", text)
        elif now - self._outage.told > TOLD_SECONDS:
            self._outage.told = now
            logger.warning("PostgreSQL is away for %.0f s (%s)", now - self._outage.since, text)


class _Outage:
    def __init__(self, since: float) -> None:
        self.since = since
        self.told = since


def _tell_reject(record: Record, reason: str) -> None:
    logger.error(
        "%s[%s]@%s fits into no table and was put into projection_rejects: %s",
        record.topic,
        record.partition,
        record.offset,
        reason,
    )
