"""Writes transactions on Kafka, as a member of the consumer group."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError

from billing_stream.engine.broker_time import BrokerTime
from billing_stream.engine.crash_points import CrashHook, CrashPoint, no_crash
from billing_stream.engine.log import Fenced, Part
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.kafka.error_classes import REFUSALS, ErrorClass, class_of
from billing_stream.kafka.transaction_offsets import Member, NotMember
from billing_stream.kafka.transaction_protocol import TransactionalProducer
from billing_stream.kafka.transaction_state import last_started
from billing_stream.records.upcasting.versions import WRITTEN

logger = logging.getLogger(__name__)

FENCED_SECONDS_MAX = 2.0
TIME_SECONDS_MAX = 5.0
# The client wants lists; most records have one of these.
NO_HEADERS: list[tuple[str, bytes | None]] = []
OF_ROWS: list[tuple[str, bytes | None]] = list(WRITTEN)


class KafkaWriter:
    """Writes the transactions of `member`, with two producers in turn.

    While the broker still marks the end of one transaction, the next of the same producer would
    have to wait and ask again. Offsets of the group, in `offsets_topic`, are part of each
    transaction: a member of an earlier generation cannot add them, and so commits nothing.
    """

    def __init__(
        self,
        member: Member,
        producers: Sequence[TransactionalProducer],
        *,
        offsets_topic: str,
        crash_hook: CrashHook = no_crash,
        broker_time: BrokerTime | None = None,
    ) -> None:
        self.member = member
        self.producers = producers
        self._offsets_topic = offsets_topic
        self._broker_time = broker_time or BrokerTime()
        self._sampling: asyncio.Task[None] | None = None
        self._crash_hook = crash_hook
        # Nothing more is written after it: its producer may have a transaction open still.
        self._fenced: Fenced | None = None
        self._free: asyncio.Queue[TransactionalProducer] = asyncio.Queue()
        for producer in producers:
            self._free.put_nowait(producer)

    async def commit(self, parts: Sequence[Part]) -> None:
        """Write all records of all lanes in one transaction. Raises Fenced."""
        producer = await self._free.get()
        try:
            if self._fenced is not None:
                raise self._fenced
            await self._commit(producer, parts)
        except Fenced as error:
            self._fenced = error
            raise
        finally:
            self._free.put_nowait(producer)

    async def _commit(self, producer: TransactionalProducer, parts: Sequence[Part]) -> None:
        sent: list[asyncio.Future[Any]] = []
        since = self._broker_time.monotonic()
        try:
            await producer.begin_transaction()
            await self._send(producer, parts, sent)
            await asyncio.gather(*sent)
            self._crash_hook(CrashPoint.SENT)
            # Last, when all records are in the logs: the owner of a partition in the next
            # generation finds there what was accepted in this one, and waits for its end.
            await producer.add_offsets(
                self.member,
                {TopicPartition(self._offsets_topic, p.partition): p.position for p in parts},
            )
            self._crash_hook(CrashPoint.ACCEPTED)
            await producer.commit_transaction()
        except NotMember as error:
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(FENCED_SECONDS_MAX):
                    await producer.abort_transaction()
            raise Fenced(str(error)) from error
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
        parts: Sequence[Part],
        sent: "list[asyncio.Future[Any]]",
    ) -> None:
        groups: dict[tuple[str, int], list[Outgoing]] = {}
        for own, records, _ in parts:
            for record in records:
                partition = own if record.partition is None else record.partition
                group = groups.get((record.topic, partition))
                if group is None:
                    group = groups[record.topic, partition] = []
                group.append(record)
        half = len(groups) // 2
        # One for all: the client would look at the clock for each record.
        now = int(time.time() * 1000)
        for number, ((topic, partition), group) in enumerate(groups.items()):
            if sent and number == half and self._crash_hook is not no_crash:
                # Half of it shall be at the broker, and not only on its way.
                await asyncio.gather(*sent)
                self._crash_hook(CrashPoint.HALF_SENT)
            batch = producer.create_batch()
            for record in group:
                if not _append(batch, record, now):
                    sent.append(await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    _append(batch, record, now)
            sent.append(await producer.send_batch(batch, topic, partition=partition))

    async def know_topics(self, topics: Collection[str]) -> None:
        """Ask for the leaders of these topics: in a transaction, records would wait for it."""
        await asyncio.gather(*(p.partitions_for(t) for p in self.producers for t in topics))

    async def note_time(self, written: tuple[str, int]) -> None:
        """Ask for the brokers' time, with a transaction that is aborted in this place."""
        producer, since = self.producers[0], self._broker_time.monotonic()
        await producer.begin_transaction()
        await producer.add_partitions([TopicPartition(*written)])
        await producer.abort_transaction()
        await note_time(self._broker_time, producer, since)

    async def close(self) -> None:
        """Close the connections. Raises nothing that matters: all was committed."""
        if self._sampling is not None:
            self._sampling.cancel()
        await asyncio.gather(*(p.stop() for p in self.producers), return_exceptions=True)


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


async def _errors(sent: "list[asyncio.Future[Any]]") -> list[BaseException | None]:
    if not sent:
        return []
    done, waiting = await asyncio.wait(sent, timeout=FENCED_SECONDS_MAX)
    for future in waiting:
        future.cancel()
    # Each is asked, and not only until one says so: one never asked complains when collected.
    return [future.exception() for future in done if not future.cancelled()]


def _append(batch: Any, record: Outgoing, now: int) -> bool:
    """Add a record; False when the batch is full. An empty batch takes a record of any size."""
    if record.headers is WRITTEN:
        headers = OF_ROWS
    else:
        headers = list(record.headers) if record.headers else NO_HEADERS
    added = batch.append(key=record.key, value=record.value, timestamp=now, headers=headers)
    return added is not None
