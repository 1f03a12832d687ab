"""The log on Kafka: transactions that a second owner fences, and our own restore."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError

from billing_stream.engine.broker_time import BrokerTime
from billing_stream.engine.crash_points import CrashHook, CrashPoint, no_crash
from billing_stream.engine.log import Fenced, OnRows, OnTotal
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.restored_rows import restore_rows
from billing_stream.kafka.consumers import KafkaConsumer
from billing_stream.kafka.error_classes import REFUSALS, ErrorClass, class_of
from billing_stream.kafka.open_transactions import OpenTransactions, stable_end_offsets
from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_logs import ChangelogIds, changelog_ids
from billing_stream.kafka.transaction_protocol import TransactionalProducer
from billing_stream.kafka.transaction_state import (
    ABORTED,
    BEGUN,
    COMMITTED,
    REQUEST_TIMEOUT_MS,
    last_started,
    last_transaction_states,
)
from billing_stream.records.upcasting.versions import WRITTEN

logger = logging.getLogger(__name__)

# Two in turn: while the broker still marks the end of one transaction, the next of the
# same producer would have to wait and ask again.
PRODUCERS_PER_LANE = 2
# How long a transaction may stay open, as in Kafka's own clients. It must outlast the failover
# to another broker (9 s until it is noticed, and an election); a new owner ends an open
# transaction at once, and without one readers wait for so long.
TRANSACTION_TIMEOUT_MS = 60_000
BATCH_BYTES_MAX = 1 << 20
# Above the largest dead letter: the whole of the largest record, in base64.
REQUEST_BYTES_MAX = 8 << 20
FETCH_BYTES = 4 << 20
# It meets one topic that it does not know after the other, and waits at each.
ENDS_BACKOFF_MS = 10
# More at once do not stay in the cache of the processor.
RESTORE_RECORDS_PER_READ = 1_000
PROGRESS_SECONDS = 2.0
FENCED_SECONDS_MAX = 2.0
TIME_SECONDS_MAX = 5.0
# A process that ended before the failover of a broker would only begin again.
FAILOVER_SECONDS_MAX = 60.0
# The client wants lists; most records have one of these.
NO_HEADERS: list[tuple[str, bytes | None]] = []
OF_ROWS: list[tuple[str, bytes | None]] = list(WRITTEN)

ClientOptions = Mapping[str, Any]
"""Options that every aiokafka client of ours is made with: servers and security."""

Written = Callable[[int], Sequence[tuple[str, int]]]
"""All (topic, partition) in which the lane of a partition may write."""


def transactional_ids(app_id: str, partition: int) -> list[str]:
    """The ids with which a partition is written.

    They belong to the partition, never to the process: with ids of their own, an old and a new
    owner could both commit.
    """
    return [f"{app_id}-{partition}-{turn}" for turn in range(PRODUCERS_PER_LANE)]


def new_producer(
    options: ClientOptions,
    transactional_id: str,
    *,
    transaction_timeout_ms: int = TRANSACTION_TIMEOUT_MS,
    **more: Any,
) -> TransactionalProducer:
    """A producer of transactions under this id, not started. `more` goes to aiokafka."""
    return TransactionalProducer(
        **options,
        transactional_id=transactional_id,
        transaction_timeout_ms=transaction_timeout_ms,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        retry_backoff_ms=10,
        max_request_size=REQUEST_BYTES_MAX,
        **more,
    )


class KafkaWriter:
    """Writes one partition's transactions, under ids that belong to the partition."""

    def __init__(
        self,
        partition: int,
        producers: Sequence[TransactionalProducer],
        crash_hook: CrashHook = no_crash,
        broker_time: BrokerTime | None = None,
    ) -> None:
        self._partition = partition
        self._broker_time = broker_time or BrokerTime()
        self._sampling: asyncio.Task[None] | None = None
        self._crash_hook = crash_hook
        self._producers = producers
        self._turn = 0

    async def commit(self, records: Sequence[Outgoing]) -> None:
        """Write all records in one transaction. Raises Fenced."""
        producer = self._producers[self._turn]
        self._turn = (self._turn + 1) % len(self._producers)
        sent: list[asyncio.Future[Any]] = []
        since = self._broker_time.monotonic()
        try:
            await producer.begin_transaction()
            await self._send(producer, records, sent)
            await asyncio.gather(*sent)
            self._crash_hook(CrashPoint.SENT)
            await producer.commit_transaction()
        except (KafkaError, IllegalOperation) as error:
            # What ended the transaction can be in a batch; all that follows fails in other words.
            errors = [error, *await _errors(sent)]
            if any(class_of(one) is ErrorClass.FENCED for one in errors):
                raise Fenced(str(error.__cause__ or error)) from error
            refused = next((one for one in errors if isinstance(one, REFUSALS)), None)
            if refused is None or refused is error:
                raise
            raise refused from error
        # Beside the next transaction, which need not wait for it.
        if self._broker_time.due and (self._sampling is None or self._sampling.done()):
            self._sampling = asyncio.create_task(note_time(self._broker_time, producer, since))

    async def _send(
        self,
        producer: TransactionalProducer,
        records: Sequence[Outgoing],
        sent: "list[asyncio.Future[Any]]",
    ) -> None:
        groups: dict[tuple[str, int], list[Outgoing]] = {}
        for record in records:
            partition = self._partition if record.partition is None else record.partition
            group = groups.get((record.topic, partition))
            if group is None:
                group = groups[record.topic, partition] = []
            group.append(record)
        half = len(groups) // 2
        for number, ((topic, partition), group) in enumerate(groups.items()):
            if sent and number == half and self._crash_hook is not no_crash:
                # Half of it shall be at the broker, and not only on its way.
                await asyncio.gather(*sent)
                self._crash_hook(CrashPoint.HALF_SENT)
            batch = producer.create_batch()
            for record in group:
                if not _append(batch, record):
                    sent.append(await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    _append(batch, record)
            sent.append(await producer.send_batch(batch, topic, partition=partition))

    async def close(self) -> None:
        """Close the connections. Raises nothing that matters: all was committed."""
        if self._sampling is not None:
            self._sampling.cancel()
        await asyncio.gather(*(p.stop() for p in self._producers), return_exceptions=True)


async def note_time(broker_time: BrokerTime, producer: TransactionalProducer, since: float) -> None:
    """Note when its last transaction began, which was not before `since`, if a broker says it."""
    try:
        async with asyncio.timeout(TIME_SECONDS_MAX):
            started = await last_started(producer.client, producer.transactional_id)
    except (KafkaError, OSError, RuntimeError) as error:
        # Also TimeoutError, and uvloop's for a connection that was closed since it was chosen.
        logger.debug("the time of the brokers is not known: %r", error)
        return
    if started is not None:
        broker_time.note(started, since)


async def complete_last_transaction(
    producer: TransactionalProducer, state: str | None, written: Sequence[tuple[str, int]]
) -> None:
    """End the last transaction again, everywhere it can have been, in the same way.

    A broker that was stopped or killed can know a transaction as complete and not have
    marked its partitions. Readers, and our restore, would end before it; and the marker of
    whatever came next would decide over it. `state` is what the coordinator said of the
    producer's id before it was fenced, `written` all (topic, partition) it may have written in.
    """
    if state not in COMMITTED and state not in ABORTED:
        return
    await producer.begin_transaction()
    async with asyncio.timeout(FAILOVER_SECONDS_MAX):
        await producer.add_partitions(TopicPartition(*written_in) for written_in in written)
    if state in COMMITTED:
        await producer.commit_transaction()
    else:
        await producer.abort_transaction()


async def _errors(sent: "list[asyncio.Future[Any]]") -> list[BaseException | None]:
    if not sent:
        return []
    done, waiting = await asyncio.wait(sent, timeout=FENCED_SECONDS_MAX)
    for future in waiting:
        future.cancel()
    # Each is asked, and not only until one says so: one never asked complains when collected.
    return [future.exception() for future in done if not future.cancelled()]


def _append(batch: Any, record: Outgoing) -> bool:
    """Add a record; False when the batch is full. An empty batch takes a record of any size."""
    if record.headers is WRITTEN:
        headers = OF_ROWS
    else:
        headers = list(record.headers) if record.headers else NO_HEADERS
    added = batch.append(key=record.key, value=record.value, timestamp=None, headers=headers)
    return added is not None


async def _stop(consumer: KafkaConsumer) -> None:
    # It cancels its reading and, when that just failed, raises CancelledError as if we were.
    await asyncio.wait([asyncio.ensure_future(consumer.stop())])


class KafkaLog:
    """Changelogs and transactions of one app on a Kafka cluster.

    `changelogs` maps each table to its changelog topic. `start_seconds`: how long `fence` waits for
    coordinators. `waits` has the transactions of others for which a restore waits;
    `broker_time` learns from the app's own transactions.
    """

    def __init__(
        self,
        options: ClientOptions,
        *,
        app_id: str,
        changelogs: Mapping[str, str],
        written: Written | None = None,
        crash_hook: CrashHook = no_crash,
        start_seconds: float = 60.0,
        waits: OpenTransactions | None = None,
        broker_time: BrokerTime | None = None,
    ) -> None:
        self._options = options
        self._silent = SilentBrokers(options)
        self._written = written or (lambda p: [(topic, p) for topic in changelogs.values()])
        self._app_id = app_id
        self._crash_hook = crash_hook
        self._start_seconds = start_seconds
        self._waits = waits if waits is not None else OpenTransactions()
        self._broker_time = broker_time or BrokerTime()
        self.changelogs = changelogs
        self._tables = {topic: table for table, topic in changelogs.items()}
        self.protocol = 0
        self.ids: ChangelogIds | None = None

    async def fence(self, partition: int) -> KafkaWriter:
        """Take the partition's transactional ids: ends and fences whoever had them.

        Raises KafkaNotReady when their coordinators are not available in time, and Fenced when
        another owner takes them at the same time.
        """
        deadline = StartDeadline(self._start_seconds, answered=True)
        ids = transactional_ids(self._app_id, partition)
        states = await last_transaction_states(self._options, ids, deadline, self._silent)
        producers = [
            new_producer(self._options, name, max_batch_size=BATCH_BYTES_MAX) for name in ids
        ]
        for producer in producers:
            self._silent.avoided_by(producer.client)
        try:
            await asyncio.gather(
                *(
                    deadline.retry(f"the coordinator of transactional id {name}", producer.start)
                    for producer, name in zip(producers, ids, strict=True)
                )
            )
            self._note_protocol(producers[0].protocol)
            # Known from the start: in its first transaction a producer would ask for one topic
            # after the other, while records wait.
            topics = {topic for topic, _ in self._written(partition)}
            await asyncio.gather(*(p.partitions_for(t) for p in producers for t in topics))
            since, written = self._broker_time.monotonic(), self._written(partition)
            await asyncio.gather(
                *(
                    complete_last_transaction(producer, states.get(transactional_id), written)
                    for producer, transactional_id in zip(producers, ids, strict=True)
                )
            )
            if states.get(ids[0]) not in COMMITTED | ABORTED:
                # Nothing to end; but before anything is decided the brokers' time must be known.
                await complete_last_transaction(producers[0], BEGUN, written[:1])
            await note_time(self._broker_time, producers[0], since)
        except BaseException as error:
            await asyncio.gather(*(p.stop() for p in producers), return_exceptions=True)
            if class_of(error) is ErrorClass.FENCED:
                raise Fenced(str(error)) from error
            raise
        return KafkaWriter(partition, producers, self._crash_hook, self._broker_time)

    def _note_protocol(self, version: int) -> None:
        if version != self.protocol:
            self.protocol = version
            logger.info("Kafka's transaction protocol: version %s", version)

    async def restore(
        self, partitions: Sequence[int], on_rows: OnRows, on_total: OnTotal | None = None
    ) -> int:
        """Read the changelogs of these partitions to their ends, aborted records left out.

        The partitions must be fenced. Waits until all that was written before is decided. Raises
        NewerState and UnreadableRow.
        """
        if not partitions:
            return 0
        consumer = KafkaConsumer(
            **self._options,
            isolation_level="read_committed",
            enable_auto_commit=False,
            fetch_max_wait_ms=20,
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_bytes=8 * FETCH_BYTES,
        )
        everything = KafkaConsumer(**self._options, retry_backoff_ms=ENDS_BACKOFF_MS)
        deadline = StartDeadline(self._start_seconds, answered=True)
        async with AsyncExitStack() as stack:
            for each in (consumer, everything):
                self._silent.avoided_by(each._client)
                stack.push_async_callback(_stop, each)
                await deadline.retry("a broker", each.start)
            self.ids = await deadline.retry(
                "the ids of the changelogs",
                partial(changelog_ids, everything._client, self.changelogs),
            )
            return await self._read_to_end(consumer, everything, partitions, on_rows, on_total)

    async def _read_to_end(
        self,
        consumer: KafkaConsumer,
        everything: KafkaConsumer,
        partitions: Sequence[int],
        on_rows: OnRows,
        on_total: OnTotal | None,
    ) -> int:
        tps = [TopicPartition(topic, p) for topic in self._tables for p in partitions]
        begins = await consumer.beginning_offsets(tps)
        try:
            ends = await stable_end_offsets(consumer, everything, tps, self._waits)
        finally:
            self._waits.note({})
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, begins[tp])
        left = {tp for tp in tps if ends[tp] > begins[tp]}
        total = sum(ends[tp] - begins[tp] for tp in left)
        if on_total is not None:
            on_total(total)
        count = 0
        logged_at = time.monotonic()
        while left:
            read = await consumer.getmany(timeout_ms=50, max_records=RESTORE_RECORDS_PER_READ)
            for tp, records in read.items():
                table, partition = self._tables[tp.topic], tp.partition
                restore_rows(on_rows, partition, table, records)
                count += len(records)
            # Positions, not offsets of records: the log may end in control records.
            for tp in list(left):
                if await consumer.position(tp) >= ends[tp]:
                    left.discard(tp)
            if time.monotonic() - logged_at > PROGRESS_SECONDS:
                logged_at = time.monotonic()
                logger.info("restored %s of at most %s changelog records", count, total)
        return count
