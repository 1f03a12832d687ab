"""Two workers on a log in memory; what operators write reaches a lane when the test lets it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from billing_stream.domain.commands import (
    AttachCharge,
    CreateMerchant,
    ReservePurchase,
    UpdateCharge,
)
from billing_stream.domain.model import Platform, Purchase
from billing_stream.domain.outcomes import PurchaseOpened, Rejected, Reply
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from tests.support.nodes import PARTITIONS, Cluster, cluster

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TWO_WORKERS = {0: [0, 1], 1: [2, 3]}
SUMMER = {"small": {"credits": 120, "price": {"USD": "9.99"}}}
AUTUMN = {"small": {"credits": 80, "price": {"USD": "8.5"}, "title": "A little"}}
# Of each partition, one merchant.
MERCHANTS = {
    partition_of(merchant, PARTITIONS): merchant
    for merchant in (f"00000000-0000-4000-8000-{number:012}" for number in range(64))
}


class Scene:
    """Two workers; records for operators reach a lane when the test lets them."""

    def __init__(self, workers: Cluster) -> None:
        self.workers = workers
        self._opened = 0
        self.at(NOW)

    def at(self, now: datetime) -> None:
        """It is so late for every worker, and in every topic."""
        self.now = now
        for node in self.workers.nodes:
            node.now = now

    async def ask(self, packs: Any, partition: int = 0, **more: Any) -> None:
        """An operator's command, which the lane takes at once."""
        said = {"command": "set_catalogue", "packs": packs, "by": "ann@host", "reason": "prices"}
        self.write(partition, {**said, **more})
        await self.tell(partition)

    def write(self, partition: int, said: Any) -> None:
        """A record for operators, which no lane has taken."""
        self.workers.operators.write(partition, said)

    async def tell(self, *partitions: int) -> None:
        """Let lanes take what waits for them."""
        await self.workers.operators.tell(*partitions)

    async def open(self, partition: int, pack: str = "small") -> Purchase | Rejected:
        """A purchase by the merchant of a partition."""
        self._opened += 1
        reply = await self.open_again(partition, pack)
        if isinstance(reply, Rejected):
            return reply
        assert isinstance(reply, PurchaseOpened)
        return self.purchase(partition, reply.purchase_id)

    async def open_again(self, partition: int, pack: str) -> Reply:
        """The reply to the command that opened the last purchase, sent once more."""
        merchant = MERCHANTS[partition]
        named = f"{merchant}/{self._opened}"
        await self.workers.ask(CreateMerchant(merchant, "shopify", f"p{partition}.example", named))
        command = ReservePurchase(merchant, pack, Platform.SHOPIFY, command_id=named)
        reply: Reply = await self.workers.ask(command)
        return reply

    def purchase(self, partition: int, purchase_id: str) -> Purchase:
        """A purchase as its row is."""
        lane = self.workers.owner(MERCHANTS[partition]).lanes[partition]
        return lane.processor.rows.purchases[purchase_id]

    async def pay(self, partition: int, purchase: Purchase) -> dict[str, Any]:
        """Pay a purchase; its event."""
        merchant, charge = MERCHANTS[partition], f"charge/{purchase.id}"
        attach = AttachCharge(merchant, purchase.id, charge, "https://pay.example/1")
        await self.workers.ask(attach)
        await self.workers.ask(UpdateCharge(merchant, charge, "ACTIVE", f"paid/{purchase.id}"))
        return self.workers.events("credits.purchased")[-1]

    def letters(self) -> list[str]:
        """Why records are dead letters."""
        return [
            json.loads(record.value or b"")["reason"]
            for record in self.workers.log.read(names.DEAD_LETTERS)
        ]

    def decided(self) -> list[dict[str, Any]]:
        """The records of `billing.catalogue.v1`."""
        return [json.loads(r.value or b"") for r in self.workers.log.read(names.CATALOGUE)]


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """A scene with its workers running."""
    async with cluster(str(folder), TWO_WORKERS) as workers:
        yield Scene(workers)
