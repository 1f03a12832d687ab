"""Reads the event topics into PostgreSQL, from where their positions there say."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from billing_stream.deliver import event_store
from billing_stream.deliver.deliver_metrics import Metrics
from billing_stream.deliver.event_bodies import InvalidEvent, StoredEvent, stored_event
from billing_stream.deliver.locks import written
from billing_stream.projector import positions
from billing_stream.projector.changelog_reader import Reader
from billing_stream.projector.positions import LastRecord
from billing_stream.projector.projected_records import Record, Records, UnprojectableRecord
from billing_stream.projector.upsert_batch import ends_of
from billing_stream.records.record_ref import RecordRef

logger = logging.getLogger(__name__)

RECORDS_MAX = 2_000
KAFKA_SECONDS_MAX = 5.0
LAG_SECONDS = 2.0
PAUSE_SECONDS = 1.0


class EventReader:
    """Stores what a reader reads, and queues it, in the transaction of the positions."""

    def __init__(self, reader: Reader, records: Records, metrics: Metrics) -> None:
        self._reader = reader
        self._records = records
        self._metrics = metrics

    async def run(self, connection: Any, lock: asyncio.Lock, queued: asyncio.Event) -> None:
        """Read until it is cancelled; `queued` is set after each batch with deliveries.

        Raises asyncpg's errors: what was in flight may or may not have been stored, and the
        positions show it. Raises KafkaError.
        """
        self._reader.reset_positions()
        while True:
            if self._reader.unpositioned():
                async with lock:
                    await self._place(connection)
            read, begins = await self._reader.read(RECORDS_MAX)
            if read and await self._store(connection, lock, read, begins):
                queued.set()

    async def _store(
        self,
        connection: Any,
        lock: asyncio.Lock,
        read: Mapping[TopicPartition, Sequence[Record]],
        begins: Mapping[TopicPartition, int],
    ) -> int:
        events = [event for found in read.values() for one in found if (event := self._event(one))]
        ends = ends_of(read)
        last = {tp: LastRecord.of(found[-1]) for tp, found in read.items()}
        async with lock, written(connection):
            await positions.lock(connection, begins)
            queued = await event_store.add(connection, events)
            await positions.save(connection, ends, last)
        self._reader.stored.update(ends)
        self._metrics.events.inc(len(events))
        return queued

    def _event(self, record: Record) -> StoredEvent | None:
        try:
            return stored_event(self._records, record)
        except (UnprojectableRecord, InvalidEvent) as error:
            self._metrics.invalid.inc()
            logger.error(
                "%s is not an event, and is not delivered: %s", RecordRef.of(record), error
            )
            return None

    async def _place(self, connection: Any) -> None:
        """Read on from the stored positions; from the beginning where the log is another one.

        A record that is read twice is queued once, by the numbers of a merchant's events.
        """
        reader = self._reader
        new = reader.unpositioned()
        await positions.add(connection, new)
        found = await positions.load(connection, new)
        last = await positions.load_last(connection, new)
        try:
            async with asyncio.timeout(KAFKA_SECONDS_MAX):
                begins, ends = await reader.begins(new), await reader.ends(new)
        except (KafkaError, TimeoutError) as error:
            if isinstance(error, KafkaError) and not error.retriable:
                raise
            logger.warning("positions of %s partitions are not known: %r", len(new), error)
            await asyncio.sleep(PAUSE_SECONDS)
            return
        for tp, offset in found.items():
            replaced = reader.replaced.pop(tp, None) is not None or offset > ends[tp]
            if not replaced and offset >= begins[tp]:
                continue
            why = "has other records than were read" if replaced else "lost records"
            logger.error("%s[%s] %s: it is read from offset %s", *tp, why, begins[tp])
            found[tp] = begins[tp]
            last.pop(tp, None)
            await positions.save(connection, {tp: begins[tp]}, {})
        kept = {tp: one for tp, one in last.items() if one.offset >= begins[tp]}
        reader.seek(found, kept)

    async def watch_lag(self) -> None:
        """Measure how far reading is behind, until it is cancelled."""
        while True:
            try:
                ends = await self._reader.ends(self._reader.assigned())
            except KafkaError as error:
                logger.debug("the lag is not known: %r", error)
            else:
                self._metrics.lag.set(sum(self._reader.lag(ends).values()))
            await asyncio.sleep(LAG_SECONDS)
