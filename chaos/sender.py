"""A Kafka producer that survives everything: a record is sent when Kafka says so, or it says not.

Idempotent, and in no hurry: a record waits for the broker as long as the run may last.
"""

import asyncio
import json
import time
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef
from chaos.stage import Stage

WAIT_SECONDS_MAX = 1_200
# Of one request, where there are several brokers: one to a frozen broker must not wait until that
# is back, when another has taken over. An idempotent producer sends the same again, however often.
REQUEST_SECONDS_MAX = 5


class Unsure(Exception):
    """The record may be in Kafka, and may not."""


class Sender:
    """Sends records, in order per partition."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._producer: Any = None
        self._starting = asyncio.Lock()
        self.acknowledged = 0
        self.waiting = 0
        self.lost = 0

    async def start(self) -> None:
        """Connect."""
        alone = self._stage.replication == 1
        async with self._starting:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._stage.kafka,
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                request_timeout_ms=(WAIT_SECONDS_MAX if alone else REQUEST_SECONDS_MAX) * 1000,
                retry_backoff_ms=100,
            )
            # aiokafka never finds brokers again that were away, when the one it knows goes, too.
            options = {"bootstrap_servers": self._stage.kafka}
            SilentBrokers(options).avoided_by(self._producer.client)
            await self._producer.start()

    async def close(self) -> None:
        """Disconnect; everything was waited for."""
        if self._producer is not None:
            # It would wait for the broker; what it holds nobody waits for.
            await asyncio.wait({asyncio.create_task(self._producer.stop())}, timeout=10)

    async def send(
        self, topic: str, merchant: str, value: Any, *, key: str = "", partition: int | None = None
    ) -> RecordRef:
        """Where the record is, when Kafka has acknowledged it. Raises Unsure."""
        return await self.begin(topic, merchant, value, key=key, partition=partition)

    def begin(
        self, topic: str, merchant: str, value: Any, *, key: str = "", partition: int | None = None
    ) -> "asyncio.Task[RecordRef]":
        """As `send`, to be waited for later. Sent in the order of the calls."""
        return asyncio.create_task(self._send(topic, merchant, value, key or merchant, partition))

    async def _send(
        self, topic: str, merchant: str, value: Any, key: str, partition: int | None
    ) -> RecordRef:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        where = self._stage.partition_of(merchant) if partition is None else partition
        self.waiting += 1
        producer = self._producer
        try:
            sent = await self._queue(producer, topic, raw, key.encode(), where)
            ref = await sent
        except (KafkaError, AssertionError, asyncio.CancelledError) as error:
            self.lost += 1
            self._stage.promises.uncertain.add(merchant)
            if isinstance(error, asyncio.CancelledError):
                raise
            await self._renew(producer)
            raise Unsure(repr(error)) from error
        finally:
            self.waiting -= 1
        self.acknowledged += 1
        return RecordRef.of(ref)

    async def _queue(
        self, producer: Any, topic: str, raw: bytes, key: bytes, partition: int
    ) -> Any:
        """Hand it to the producer, which has no room while a broker is away."""
        end = time.monotonic() + WAIT_SECONDS_MAX
        while True:
            try:
                name = self._stage.topics.name(topic)
                return await producer.send(name, raw, key=key, partition=partition)
            except KafkaTimeoutError:
                if time.monotonic() > end:
                    raise

    async def _renew(self, failed: Any) -> None:
        """An idempotent producer that lost its sequence sends nothing any more."""
        if self._producer is failed:
            await self.start()

    async def create_merchant(self, merchant: str) -> None:
        """Create the merchant by a command, so that commands may follow it at once."""
        domain = domain_of(merchant)
        self._stage.promises.domains[merchant] = domain
        command = {"command": "create_merchant", "merchant_id": merchant, "platform": "shopify"}
        await self.send(names.COMMANDS, merchant, {**command, "domain": domain})

    def begin_trial(self, merchant: str) -> "asyncio.Task[RecordRef]":
        """Create the merchant and start its trial, which gives one event."""
        return asyncio.create_task(self._trial(merchant))

    async def _trial(self, merchant: str) -> RecordRef:
        await self.create_merchant(merchant)
        command = {"command": "start_trial", "merchant_id": merchant}
        ref = await self.send(names.COMMANDS, merchant, command)
        self._stage.promises.trials.add(merchant)
        return ref


def domain_of(merchant: str) -> str:
    """The shop of a merchant."""
    return f"{merchant}.example"
