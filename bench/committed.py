"""A log as workers leave it, written at once: rows and events of purchases, in transactions."""

import asyncio
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaProducer

from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Merchant, Platform, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import CreditsPurchased, Event
from billing_stream.engine.kafka_writer import OF_ROWS
from billing_stream.engine.log import POSITION_PREFIX
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.schemas import encode, encode_event
from billing_stream.records.topics import Topics

START = datetime(2026, 1, 1, tzinfo=UTC)
CREDITS = 100
AMOUNT = "9.99"
CURRENCY, PACK = "USD", "small"
PURCHASES_PER_TRANSACTION = 2_000
ROWS_PER_PURCHASE = 3

Written = tuple[str, bytes, bytes, list[tuple[str, bytes | None]]]
"""Topic, key, value, headers."""


class CommittedLog:
    """Purchases of `merchants` merchants, each paid the moment it is written."""

    def __init__(self, kafka: str, topics: Topics, partitions: int, merchants: int) -> None:
        self._kafka = kafka
        self._topics = topics
        self._partitions = partitions
        self.merchants = [str(uuid.UUID(int=0xDEF << 100 | n, version=4)) for n in range(merchants)]
        self._counts = [0] * merchants
        self.purchases = 0

    def totals(self) -> dict[str, int]:
        """The credits that each merchant with a purchase must have."""
        found = zip(self.merchants, self._counts, strict=True)
        return {merchant: count * CREDITS for merchant, count in found if count}

    async def write(self, purchases: int) -> None:
        """Write so many purchases more, each a row of both tables and an event."""
        parts: dict[int, list[Written]] = {}
        for number in range(self.purchases, self.purchases + purchases):
            owner = number % len(self.merchants)
            self._counts[owner] += 1
            merchant = self.merchants[owner]
            records = list(self._records(number, merchant, self._counts[owner]))
            parts.setdefault(partition_of(merchant, self._partitions), []).extend(records)
        self.purchases += purchases
        await asyncio.gather(*(self._write(p, records) for p, records in parts.items()))

    def _records(self, number: int, merchant_id: str, version: int) -> Iterable[Written]:
        moment = START + timedelta(seconds=number)
        purchase_id = derived_id("purchase", merchant_id, str(number))
        purchase = Purchase(
            id=purchase_id,
            merchant_id=merchant_id,
            credits=CREDITS,
            amount=AMOUNT,
            status=PurchaseStatus.COMPLETED,
            platform=Platform.SHOPIFY,
            created_at=moment,
            expires_at=moment + timedelta(hours=24),
            platform_charge_id=f"gid://shopify/AppPurchaseOneTime/{number}",
            checkout_url="https://pay.example/1",
            completed_at=moment,
            version=version,
            currency=CURRENCY,
            pack=PACK,
        )
        merchant = Merchant(
            merchant_id=merchant_id,
            platform="shopify",
            domain=f"{merchant_id}.example",
            total_credits_purchased=version * CREDITS,
            last_purchase_at=moment,
            created_at=START,
            updated_at=moment,
            version=version,
            sequence=version,
        )
        sold = CREDITS, AMOUNT, Platform.SHOPIFY, CURRENCY, PACK
        data = CreditsPurchased(merchant_id, purchase_id, *sold)
        event = Event(derived_id(data.kind, purchase_id), version, moment, data)
        kind = names.event_type(data.kind)
        key = merchant_id.encode()
        headers: list[tuple[str, bytes | None]] = [
            ("sequence", b"%d" % version),
            ("cause", f"{names.PURCHASE_UPDATED}[0]@{number}".encode()),
        ]
        yield self._topics.changelog(names.BILLING_RECORDS), key, encode(merchant), OF_ROWS
        rows = self._topics.changelog(names.CREDIT_PURCHASES)
        yield rows, purchase_id.encode(), encode(purchase), OF_ROWS
        yield self._topics.name(kind), key, encode_event(event, kind, f"c-{number}"), headers

    async def _write(self, partition: int, records: list[Written]) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka,
            transactional_id=f"{self._topics.prefix}committed-{partition}-{self.purchases}",
            max_batch_size=1 << 19,
        )
        await producer.start()
        try:
            step = PURCHASES_PER_TRANSACTION * ROWS_PER_PURCHASE
            for begin in range(0, len(records), step):
                async with producer.transaction():
                    await self._send(producer, partition, records[begin : begin + step])
        finally:
            await producer.stop()

    async def _send(self, producer: Any, partition: int, records: list[Written]) -> None:
        # As lanes do: how far they read stands among the rows.
        changelog = self._topics.changelog(names.BILLING_RECORDS)
        position = POSITION_PREFIX + self._topics.name(names.PURCHASE_UPDATED).encode()
        reached = (changelog, position, b"1", OF_ROWS)
        by_topic: dict[str, list[Written]] = {changelog: [reached]}
        for record in records:
            by_topic.setdefault(record[0], []).append(record)
        for topic, group in by_topic.items():
            batch = producer.create_batch()
            for _, key, value, headers in group:
                written = {"key": key, "value": value, "timestamp": None, "headers": headers}
                if batch.append(**written) is None:
                    await producer.send_batch(batch, topic, partition=partition)
                    batch = producer.create_batch()
                    batch.append(**written)
            await producer.send_batch(batch, topic, partition=partition)
