"""The Kafka clients with which billing-stream reads, asks, and writes a few records."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher

from billing_stream.kafka.record_batches import BoundedRecords
from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.kafka.start_deadline import StartDeadline


class KafkaConsumer(aiokafka.AIOKafkaConsumer):
    """Reads whatever a broker takes, in bounded memory. See `kafka.record_batches`.

    It reads from the given offsets only: one that is out of the log is an OffsetOutOfRangeError,
    never a silent jump.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The fetcher looks this name up for each response; it takes no argument for it.
        fetcher.MemoryRecords = BoundedRecords
        super().__init__(*args, auto_offset_reset="none", **kwargs)


@asynccontextmanager
async def consuming(
    options: Mapping[str, Any],
    *,
    committed: bool = True,
    deadline: StartDeadline | None = None,
    **more: Any,
) -> AsyncIterator[Any]:
    """A started consumer without a group, of records that are committed or of all.

    `more` are options of aiokafka. Raises KafkaConnectionError when no broker answers, and with
    a deadline KafkaNotReady.
    """
    level = "read_committed" if committed else "read_uncommitted"
    consumer = KafkaConsumer(**options, **more, enable_auto_commit=False, isolation_level=level)
    # Some of them live as long as a worker, and are not to ask a broker that is away all the time.
    SilentBrokers(options).avoided_by(consumer._client)
    try:
        await (deadline.retry("a broker", consumer.start) if deadline else consumer.start())
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def asking(
    options: Mapping[str, Any], deadline: StartDeadline | None = None
) -> AsyncIterator[Any]:
    """A started AIOKafkaClient. Raises as `consuming`."""
    client = AIOKafkaClient(**options)
    try:
        await (deadline.retry("a broker", client.bootstrap) if deadline else client.bootstrap())
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def administering(
    options: Mapping[str, Any], **more: Any
) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client. Raises KafkaConnectionError when no broker answers."""
    client = AIOKafkaAdminClient(**options, **more)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def short_producer(
    options: Mapping[str, Any], deadline: StartDeadline, **more: Any
) -> AsyncIterator[AIOKafkaProducer]:
    """An idempotent producer, started within the deadline and stopped at the end.

    `more` are options of aiokafka. Raises its errors and KafkaNotReady.
    """
    producer = AIOKafkaProducer(**options, **more, acks="all", enable_idempotence=True)
    try:
        await deadline.retry("a producer id", producer.start)
        yield producer
    finally:
        await producer.stop()
