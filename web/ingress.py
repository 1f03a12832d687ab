"""Writes webhooks to their topics, where the lanes read them, and invalid ones as dead letters."""

import asyncio
from collections.abc import Sequence
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
from billing_stream.records.dead_letters import DeadLetter
from billing_stream.records.http_dead_letters import HttpDelivery
from billing_stream.records.schemas import encode
from billing_stream.records.topics import DEAD_LETTERS, Topics
from billing_stream.web.envelope import not_ready

SOURCE_SERVICE = "billing-webhooks"
# Platforms give up after 5 s; until then they are owed an answer.
ACK_SECONDS = 4.0
# A dead letter holds a body of a megabyte in base64, and more.
REQUEST_BYTES_MAX = 2 << 20


class WebhookRecord(Struct, frozen=True, kw_only=True):
    """A record for an input topic, on the partition of `key`: the merchant id, or the charge.

    Its own key is `record_key` where that is another. `delivery_id` goes into a header, for audit:
    it never decides anything.
    """

    topic: str
    key: str
    data: dict[str, Any]
    correlation_id: str
    platform: str
    delivery_id: str | None = None
    record_key: bytes | None = None

    def value(self, now: datetime) -> bytes:
        """The value of the record, in the envelope."""
        envelope = {
            "event_type": self.topic,
            "correlation_id": self.correlation_id,
            "source_service": SOURCE_SERVICE,
            "timestamp": now,
            "data": self.data,
        }
        return encode(envelope)


class Ingress(Protocol):
    """Where webhooks go."""

    async def put(self, record: WebhookRecord) -> None:
        """Write the record; when this returns, the brokers have it.

        Raises ApiError (NOT_READY) when they may not have it.
        """

    async def put_dead_letter(self, letter: DeadLetter, delivery: HttpDelivery) -> None:
        """Write the dead letter of an invalid webhook, as `put` does.

        It is written to the partition of its merchant; without one, to that of the delivery's id.
        """

    async def write(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        partition: int,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Write any record of a topic (its name without a prefix), as `put` does."""

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
        headers = [
            ("platform", record.platform.encode()),
            ("correlation_id", record.correlation_id.encode()),
        ]
        if record.delivery_id is not None:
            headers.append(("delivery", record.delivery_id.encode("utf-8", "replace")))
        partition = partition_of(record.key, self._partitions)
        value = record.value(datetime.now(UTC))
        key = record.record_key or record.key.encode()
        await self._send(record.topic, key, value, partition, headers)

    async def put_dead_letter(self, letter: DeadLetter, delivery: HttpDelivery) -> None:
        """As `Ingress.put_dead_letter`; at most `ACK_SECONDS`."""
        by = delivery.merchant_id or delivery.delivery_id
        partition = partition_of(by, self._partitions)
        await self._send(DEAD_LETTERS, letter.key, encode(letter), partition, [])

    async def _send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        partition: int,
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        if self._tracing is None:
            await self.write(topic, key, value, partition, headers)
            return
        said = {
            "messaging.system": "kafka",
            "messaging.destination.name": self._topics.name(topic),
        }
        with self._tracing.sending(f"send {topic}", said) as traceparent:
            headers = [*headers, (TRACEPARENT, traceparent.encode())]
            await self.write(topic, key, value, partition, headers)

    async def write(
        self,
        topic: str,
        key: bytes | None,
        value: bytes,
        partition: int,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """As `Ingress.write`; at most `ACK_SECONDS`."""
        try:
            async with asyncio.timeout(ACK_SECONDS):
                producer = await self._started()
                await producer.send_and_wait(
                    self._topics.name(topic),
                    value,
                    key=key,
                    partition=partition,
                    headers=headers,
                )
        except (KafkaError, TimeoutError) as error:
            if not isinstance(error, TimeoutError):
                # A producer that failed once may do so for ever.
                await self.close()
            raise not_ready("Kafka has not acknowledged it; retry") from None

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._options,
                    acks="all",
                    enable_idempotence=True,
                    retry_backoff_ms=50,
                    max_request_size=REQUEST_BYTES_MAX,
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
