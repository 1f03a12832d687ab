"""A producer for the few records that a command or a start writes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer

from billing_stream.kafka.start_deadline import StartDeadline


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
