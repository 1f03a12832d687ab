"""Traffic whose outcome is known beforehand, in whatever order the topics are read.

What must come of it is written down here while it is sent, in plain dicts and from the
rules alone; it shares nothing with the code that is tested but the way ids are derived.
"""

import asyncio
import json
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer

from billing_stream.domain.ids import derived_id
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names

CREDITS = {"small": 100, "medium": 500, "large": 1000}


@dataclass
class Expected:
    """What must stand at the end."""

    trials: set[str] = field(default_factory=set)
    domains: dict[str, str] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    bad: int = 0

    def events(self) -> dict[str, set[str]]:
        """The subjects (merchants or purchases) of each kind of event."""
        by_status = {
            wanted: {p for p, status in self.status.items() if status == wanted}
            for wanted in ("completed", "failed", "refunded")
        }
        return {
            "trial.started": set(self.trials),
            "credits.purchased": by_status["completed"] | by_status["refunded"],
            "purchase.failed": by_status["failed"],
            "purchase.refunded": by_status["refunded"],
        }


class Traffic:
    """Produces merchants, trials, purchases, webhooks, duplicates and bad records."""

    def __init__(self, kafka: str, prefix: str, partitions: int, seed: int) -> None:
        self._kafka = kafka
        self._prefix = prefix
        self._partitions = partitions
        self._random = random.Random(seed)
        self._ids = random.Random(seed + 1)
        self.expected = Expected()
        self._producer: AIOKafkaProducer
        self._sent: list[asyncio.Future[Any]] = []

    async def __aenter__(self) -> "Traffic":
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka, acks="all", enable_idempotence=True, linger_ms=5
        )
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def merchants(self, count: int, purchases_each: int = 3) -> None:
        """Send `count` merchants with all that befalls them; returns when acknowledged."""
        for _ in range(count):
            await self._merchant(purchases_each)
        await asyncio.gather(*self._sent)
        self._sent.clear()

    async def _merchant(self, purchases_each: int) -> None:
        merchant = str(uuid.UUID(int=self._ids.getrandbits(128), version=4))
        domain = f"{merchant[:13]}.example"
        self.expected.domains[merchant] = domain
        created = {"merchant_id": merchant, "platform_name": "shopify", "domain": domain}
        await self._send(names.MERCHANT_CREATED, merchant, {**created, "name": "n"})
        acks = []
        for _ in range(purchases_each):
            pack = self._random.choice(list(CREDITS))
            reserve = {"command": "reserve_purchase", "pack": pack, "platform": "shopify"}
            acks.append((pack, await self._created_first(merchant, reserve)))
        if self._random.random() < 0.7:
            self.expected.trials.add(merchant)
            await self._created_first(merchant, {"command": "start_trial"})
        for pack, ack in acks:
            ref = await ack
            purchase = derived_id(
                "purchase", merchant, f"{ref.topic}[{ref.partition}]@{ref.offset}"
            )
            await self._purchase(merchant, purchase, pack)

    async def _created_first(self, merchant: str, command: dict[str, Any]) -> Any:
        # Topics have no order between them: a command may only follow its merchant where
        # both stand in one. So the merchant is created through the commands as well.
        if merchant not in self.expected.totals:
            self.expected.totals[merchant] = 0
            create = {
                "command": "create_merchant",
                "platform": "shopify",
                "domain": self.expected.domains[merchant],
            }
            await self._send(names.COMMANDS, merchant, {**create, "merchant_id": merchant})
        return await self._send(names.COMMANDS, merchant, {**command, "merchant_id": merchant})

    async def _purchase(self, merchant: str, purchase: str, pack: str) -> None:
        charge = f"gid://shopify/AppPurchaseOneTime/{purchase[:18]}"
        attach = {
            "command": "attach_charge",
            "merchant_id": merchant,
            "purchase_id": purchase,
            "charge_id": charge,
            "checkout_url": "https://pay.example/1",
        }
        await self._send(names.COMMANDS, merchant, attach)
        fate = self._random.choices(
            ["completed", "failed", "refunded", "pending"], [60, 20, 10, 10]
        )[0]
        self.expected.status[purchase] = fate
        self.expected.owner[purchase] = merchant
        status = {"completed": "ACTIVE", "failed": "declined", "refunded": "accepted"}.get(
            fate, "PENDING"
        )
        for _ in range(1 + (self._random.random() < 0.2)):
            webhook = {"merchant_id": merchant, "charge_id": charge, "status": status}
            key = merchant if self._random.random() < 0.95 else "keyed-by-something-else"
            await self._send(names.PURCHASE_UPDATED, key, self._enveloped(webhook))
        if fate == "completed":
            self.expected.totals[merchant] += CREDITS[pack]
        if fate == "refunded":
            refund = {"merchant_id": merchant, "charge_id": charge}
            await self._send(names.PURCHASE_REFUNDED, merchant, refund)
        if self._random.random() < 0.03:
            self.expected.bad += 1
            await self._send(names.PURCHASE_UPDATED, merchant, b"\xff not json")

    def _enveloped(self, payload: dict[str, Any]) -> dict[str, Any]:
        if self._random.random() < 0.5:
            return payload
        return {"event_id": "e", "event_type": "t", "correlation_id": "c", "data": payload}

    async def _send(self, topic: str, key: str, value: Any) -> "asyncio.Future[Any]":
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        sent: asyncio.Future[Any] = await self._producer.send(
            self._prefix + topic,
            raw,
            key=key.encode(),
            partition=partition_of(key, self._partitions),
        )
        self._sent.append(sent)
        return sent
