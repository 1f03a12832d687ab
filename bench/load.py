"""The load: merchants with pending purchases, and a webhook for each that completes it."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from bench.setting import Setting
from billing_stream.domain.ids import derived_id
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names

Record = tuple[str, bytes]
"""(merchant id, value)."""

encode = msgspec.json.encode


class Load:
    """`merchants` merchants with `purchases` pending purchases in all."""

    def __init__(self, setting: Setting, merchants: int, purchases: int) -> None:
        self._setting = setting
        self._producer: AIOKafkaProducer
        self.merchants = [str(uuid.UUID(int=0xABC << 100 | n, version=4)) for n in range(merchants)]
        self._partition = {m: partition_of(m, setting.partitions) for m in self.merchants}
        self._owner = [self.merchants[n % merchants] for n in range(purchases)]

    async def __aenter__(self) -> "Load":
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._setting.kafka, acks=1, max_batch_size=1 << 19
        )
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def prepare(self) -> None:
        """Send what makes the merchants, their purchases and their charges."""
        creates = [
            (
                merchant,
                encode(
                    {
                        "command": "create_merchant",
                        "merchant_id": merchant,
                        "platform": "shopify",
                        "domain": f"{merchant}.example",
                    }
                ),
            )
            for merchant in self.merchants
        ]
        await self.send(names.COMMANDS, creates)
        reserves = [
            (
                merchant,
                encode(
                    {
                        "command": "reserve_purchase",
                        "merchant_id": merchant,
                        "pack": "small",
                        "platform": "shopify",
                    }
                ),
            )
            for merchant in self._owner
        ]
        refs = await self.send(names.COMMANDS, reserves)
        attaches = [
            (
                merchant,
                encode(
                    {
                        "command": "attach_charge",
                        "merchant_id": merchant,
                        "purchase_id": derived_id("purchase", merchant, ref),
                        "charge_id": charge(number),
                        "checkout_url": "https://pay.example/1",
                    }
                ),
            )
            for number, (merchant, ref) in enumerate(zip(self._owner, refs, strict=True))
        ]
        await self.send(names.COMMANDS, attaches)

    def webhooks(self, numbers: Iterable[int]) -> list[Record]:
        """The webhooks that complete these purchases, in the envelope."""
        return [
            (
                self._owner[n],
                encode(
                    {
                        "event_id": str(n),
                        "event_type": names.PURCHASE_UPDATED,
                        "correlation_id": f"correlation-{n}",
                        "source_service": "webhooks",
                        "timestamp": "2026-01-01T00:00:00Z",
                        "data": {
                            "merchant_id": self._owner[n],
                            "charge_id": charge(n),
                            "status": "ACTIVE",
                        },
                    }
                ),
            )
            for n in numbers
        ]

    async def send(self, topic: str, records: list[Record]) -> list[str]:
        """Send in large batches; the place of each record."""
        name = self._setting.topics.name(topic)
        parts: dict[int, list[int]] = defaultdict(list)
        for index, (merchant, _) in enumerate(records):
            parts[self._partition[merchant]].append(index)
        refs = [""] * len(records)
        await asyncio.gather(
            *(self._send_part(name, p, i, records, refs) for p, i in parts.items())
        )
        return refs

    async def _send_part(
        self, topic: str, partition: int, indices: list[int], records: list[Record], out: list[str]
    ) -> None:
        waiting: list[tuple[Any, list[int]]] = []
        batch = self._producer.create_batch()
        inside: list[int] = []
        for index in indices:
            merchant, value = records[index]
            if batch.append(key=merchant.encode(), value=value, timestamp=None) is None:
                sent = await self._producer.send_batch(batch, topic, partition=partition)
                waiting.append((sent, inside))
                batch, inside = self._producer.create_batch(), []
                batch.append(key=merchant.encode(), value=value, timestamp=None)
            inside.append(index)
        if inside:
            sent = await self._producer.send_batch(batch, topic, partition=partition)
            waiting.append((sent, inside))
        for future, numbers in waiting:
            base = (await future).offset
            for offset, index in enumerate(numbers):
                out[index] = f"{topic}[{partition}]@{base + offset}"


class _Event(msgspec.Struct):
    correlation_id: str


_decode = msgspec.json.Decoder(_Event).decode


def number_of(event: bytes) -> int:
    """The number of the purchase that this event is about, from its webhook's correlation id."""
    return int(_decode(event).correlation_id.rpartition("-")[2])


def charge(number: int) -> str:
    """The charge of the purchase with this number."""
    return f"gid://shopify/AppPurchaseOneTime/{number}"
