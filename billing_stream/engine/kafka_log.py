"""The log on Kafka: joining a generation of the group, and the restore."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from uuid import uuid4

from aiokafka import TopicPartition

from billing_stream.engine.broker_time import BrokerTime
from billing_stream.engine.crash_points import CrashHook, CrashPoint, no_crash
from billing_stream.engine.kafka_writer import KafkaWriter
from billing_stream.engine.log import MEMBERS_KEY, Fenced, OnRows, OnTotal
from billing_stream.engine.restored_rows import restore_rows
from billing_stream.kafka.consumers import KafkaConsumer
from billing_stream.kafka.earlier_transactions import EarlierTransactions, member_ids
from billing_stream.kafka.error_classes import ErrorClass, class_of
from billing_stream.kafka.open_transactions import OpenTransactions, stable_end_offsets
from billing_stream.kafka.producers import new_producer
from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_logs import ChangelogIds, changelog_ids
from billing_stream.kafka.transaction_offsets import Member
from billing_stream.kafka.transaction_protocol import TransactionalProducer
from billing_stream.kafka.transaction_state import ABORTED, COMMITTED, last_transaction_states
from billing_stream.records.upcasting.versions import WRITTEN

logger = logging.getLogger(__name__)

# Two, so that one transaction is begun while the broker still marks the end of the last.
PRODUCERS = 2
BATCH_BYTES_MAX = 1 << 20
FETCH_BYTES = 4 << 20
# It meets one topic that it does not know after the other, and waits at each.
ENDS_BACKOFF_MS = 10
# More at once do not stay in the cache of the processor.
RESTORE_RECORDS_PER_READ = 1_000
PROGRESS_SECONDS = 2.0
DECIDED_POLL_SECONDS = 0.05
# Markers are written within milliseconds, unless a broker is away or has lost them.
MARKERS_SECONDS = 3.0
# A process that ended before the failover of a broker would only begin again.
FAILOVER_SECONDS_MAX = 60.0

ClientOptions = Mapping[str, Any]
"""Options of every aiokafka client: servers and security."""

Written = Callable[[int], Sequence[tuple[str, int]]]
"""All (topic, partition) in which the lane of a partition may write."""


def old_ids(app_id: str, partition: int) -> list[str]:
    """The ids with which releases before 0.6.0 write a partition."""
    return [f"{app_id}-{partition}-{turn}" for turn in range(2)]


def some_ids(app_id: str) -> list[str]:
    """Transactional ids that a worker uses, to find out whether it may."""
    return [*member_ids(app_id, 0, "rights", PRODUCERS), *old_ids(app_id, 0)]


async def complete_last_transaction(
    producer: TransactionalProducer, state: str | None, written: Sequence[tuple[str, int]]
) -> None:
    """End the last transaction again, everywhere it can have been, in the same way.

    A broker that was stopped or killed can know a transaction as complete and not have
    marked its partitions. Readers, and our restore, would end before it; and the marker of
    whatever came next would decide over it. `state` is the coordinator's state of the
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


async def _stop(consumer: KafkaConsumer) -> None:
    # It cancels its reading and, when that just failed, raises CancelledError as if we were.
    await asyncio.wait([asyncio.ensure_future(consumer.stop())])


class KafkaLog:
    """Changelogs and transactions of one app on a Kafka cluster.

    `changelogs` maps each table to its changelog topic; `offsets_topic` is an input with as many
    `partitions` as there are lanes. `worker` is the name of a static member of the group: one that
    starts again is of the same generation, and ends what it had left open. `start_seconds`: how
    long `join` waits for coordinators. `waits` has the transactions of others for which a restore
    waits; `broker_time` learns from the app's own transactions.
    """

    def __init__(
        self,
        options: ClientOptions,
        *,
        app_id: str,
        changelogs: Mapping[str, str],
        offsets_topic: str,
        worker: str | None = None,
        written: Written | None = None,
        partitions: int = 1,
        crash_hook: CrashHook = no_crash,
        start_seconds: float = 60.0,
        waits: OpenTransactions | None = None,
        broker_time: BrokerTime | None = None,
    ) -> None:
        self._options = options
        self._silent = SilentBrokers(options)
        self._written = written or (lambda p: [(topic, p) for topic in changelogs.values()])
        self._app_id = app_id
        self._worker = worker or uuid4().hex
        self._offsets_topic = offsets_topic
        self._partitions = partitions
        self._crash_hook = crash_hook
        self._start_seconds = start_seconds
        self._waits = waits if waits is not None else OpenTransactions()
        self._broker_time = broker_time or BrokerTime()
        self.changelogs = changelogs
        self._tables = {topic: table for table, topic in changelogs.items()}
        self.protocol = 0
        self.ids: ChangelogIds | None = None

    async def join(self, member: Member, partitions: Collection[int]) -> KafkaWriter:
        """Begin to write these partitions; what earlier members had open in them has ended.

        Waits for that as long as it takes. Raises KafkaNotReady when coordinators are not
        available in time.
        """
        deadline = StartDeadline(self._start_seconds, answered=True)
        # Fresh ones each time: of an id that is taken again, the coordinator forgets what became of
        # its last transaction.
        ids = member_ids(self._app_id, member.generation, self._worker, PRODUCERS)
        producers = [
            new_producer(self._options, name, max_batch_size=BATCH_BYTES_MAX) for name in ids
        ]
        writer = KafkaWriter(
            member,
            producers,
            offsets_topic=self._offsets_topic,
            crash_hook=self._crash_hook,
            broker_time=self._broker_time,
        )
        try:
            for producer in producers:
                self._silent.avoided_by(producer.client)
            await asyncio.gather(
                *(
                    deadline.retry(f"the coordinator of transactional id {name}", producer.start)
                    for producer, name in zip(producers, ids, strict=True)
                )
            )
            self._note_protocol(producers[0].protocol)
            self._crash_hook(CrashPoint.JOINED)
            written = sorted({place for p in partitions for place in self._written(p)})
            await writer.know_topics({topic for topic, _ in written})
            old = [name for p in partitions for name in old_ids(self._app_id, p)]
            earlier = EarlierTransactions(
                producers, self._options, self._app_id, member, self._worker, old
            )
            await self._end(earlier, partitions, written)
            if written:
                # Before anything is decided the brokers' time must be known.
                await writer.note_time(written[0])
        except BaseException:
            await writer.close()
            raise
        return writer

    async def _end(
        self,
        earlier: EarlierTransactions,
        partitions: Collection[int],
        written: Sequence[tuple[str, int]],
    ) -> None:
        """Have the transactions of earlier members ended, and wait until they are."""
        began = time.monotonic()
        while True:
            # For answers, and not for what they say.
            deadline = StartDeadline(self._start_seconds, answered=True)
            await deadline.retry("the transactions of the app", earlier.end_open)
            if not await deadline.retry(
                "the producers of the app", partial(earlier.open_in, written)
            ):
                return
            if time.monotonic() - began > MARKERS_SECONDS:
                lanes = {p: self._written(p) for p in range(self._partitions)}
                await deadline.retry(
                    "the transactions of the app", partial(earlier.mark_again, lanes, partitions)
                )
                began = time.monotonic()
            await asyncio.sleep(DECIDED_POLL_SECONDS)

    async def end_old_release(self, partition: int) -> None:
        """Fence the ids of releases before 0.6.0, and write MEMBERS_KEY under each of them.

        Raises KafkaNotReady when their coordinators are not available in time, and Fenced when
        a worker of such a release takes them at the same time.
        """
        deadline = StartDeadline(self._start_seconds, answered=True)
        ids = old_ids(self._app_id, partition)
        states = await last_transaction_states(self._options, ids, deadline, self._silent)
        producers = [new_producer(self._options, name) for name in ids]
        for producer in producers:
            self._silent.avoided_by(producer.client)
        written = self._written(partition)
        try:
            await asyncio.gather(
                *(
                    deadline.retry(f"the coordinator of transactional id {name}", producer.start)
                    for producer, name in zip(producers, ids, strict=True)
                )
            )
            await asyncio.gather(
                *(
                    complete_last_transaction(producer, states.get(transactional_id), written)
                    for producer, transactional_id in zip(producers, ids, strict=True)
                )
            )
            # If an old worker took the id meanwhile, this is fenced; if it takes it later, it
            # restores this. Under one id only, it could take the other in between, and write.
            for producer in producers:
                await self._write_members(producer, partition)
        except BaseException as error:
            if class_of(error) is ErrorClass.FENCED:
                raise Fenced(str(error)) from error
            raise
        finally:
            await asyncio.gather(*(p.stop() for p in producers), return_exceptions=True)

    async def _write_members(self, producer: TransactionalProducer, partition: int) -> None:
        topic = next(iter(self.changelogs.values()))
        await producer.begin_transaction()
        # The commit would not fail because of a refused record.
        await producer.send_and_wait(
            topic, b"", key=MEMBERS_KEY, partition=partition, headers=list(WRITTEN)
        )
        await producer.commit_transaction()

    def _note_protocol(self, version: int) -> None:
        if version != self.protocol:
            self.protocol = version
            logger.info("Kafka's transaction protocol: version %s", version)

    async def restore(
        self, partitions: Sequence[int], on_rows: OnRows, on_total: OnTotal | None = None
    ) -> int:
        """Read the changelogs of these partitions to their ends, aborted records left out.

        To be called after `join`. Waits until all that was written before is decided. Raises
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
