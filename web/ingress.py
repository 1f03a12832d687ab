"""Puts what platforms tell us onto the webhook topics, where the lanes take it from."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct

from billing_stream.engine.kafka_log import ClientOptions
from billing_stream.engine.partitioner import partition_of
from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.observability.tracing.spans import TRACEPARENT, Tracing
from billing_stream.records.schemas import encode
from billing_stream.records.topics import Topics
from billing_stream.web.envelope import not_ready

SOURCE_SERVICE = "billing-webhooks"
# Platforms give up after 5 s; until then they are owed an answer.
ACK_SECONDS = 4.0


class WebhookRecord(Struct, frozen=True, kw_only=True):
    """A record for a webhook topic; `key` is the merchant id where it is known.

    `delivery_id` goes into a header, for audit: it never decides anything.
    """

    topic: str
    key: str
    data: dict[str, Any]
    correlation_id: str
    platform: str
    delivery_id: str | None = None


class Ingress(Protocol):
    """Where webhooks go."""

    async def put(self, record: WebhookRecord) -> None:
        """Write the record; when this returns, the brokers have it.

        Raises ApiError (NOT_READY) when they may not have it.
        """

    async def close(self) -> None:
        """Close the connections."""


class KafkaIngress:
    """Writes webhooks to Kafka. It connects when the first one comes."""

    def __init__(
        self,
        options: ClientOptions,
        topics: Topics,
        partitions: int,
        tracing: Tracing | None = None,
    ) -> None:
        self._options = options
        self._topics = topics
        self._partitions = partitions
        self._tracing = tracing
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def put(self, record: WebhookRecord) -> None:
        """As `Ingress.put`; at most `ACK_SECONDS`."""
        if self._tracing is None:
            await self._put(record)
            return
        said = {
            "messaging.system": "kafka",
            "messaging.destination.name": self._topics.name(record.topic),
        }
        with self._tracing.sending(f"send {record.topic}", said) as traceparent:
            await self._put(record, (TRACEPARENT, traceparent.encode()))

    async def _put(self, record: WebhookRecord, *more: tuple[str, bytes]) -> None:
        value = {
            "event_type": record.topic,
            "correlation_id": record.correlation_id,
            "source_service": SOURCE_SERVICE,
            "timestamp": datetime.now(UTC),
            "data": record.data,
        }
        headers = [
            ("platform", record.platform.encode()),
            ("correlation_id", record.correlation_id.encode()),
            *more,
        ]
        if record.delivery_id is not None:
            headers.append(("delivery", record.delivery_id.encode("utf-8", "replace")))
        try:
            async with asyncio.timeout(ACK_SECONDS):
                producer = await self._started()
                await producer.send_and_wait(
                    self._topics.name(record.topic),
                    encode(value),
                    key=record.key.encode(),
                    partition=partition_of(record.key, self._partitions),
                    headers=headers,
                )
        except (KafkaError, TimeoutError) as error:
            if not isinstance(error, TimeoutError):
                # A producer that failed once may do so for ever.
                await self.close()
            raise not_ready("Kafka has not acknowledged the webhook; send it again") from None

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._options, acks="all", enable_idempotence=True, retry_backoff_ms=50
                )
                SilentBrokers(self._options).avoided_by(producer.client)
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def close(self) -> None:
        """Close the connections."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError):
                await producer.stop()
