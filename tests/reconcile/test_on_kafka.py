"""Real workers on a real Kafka, whose platforms send no webhook at all."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.records.topics import PURCHASE_UPDATED, Topics
from tests.reconcile.stand_in import PlatformsStandIn, settings_of, stand_in
from tests.support.audit import Audit, read_committed
from tests.support.shop import Shop, create_merchants, shop
from tests.support.worker import create_topics, environment, run, worker

M1 = "11111111-1111-4111-8111-111111111111"
DOMAIN = "one.myshopify.com"
PURCHASES = "/api/billing/purchases"
PLATFORMS = ("shopify", "stripe", "custom")

pytestmark = pytest.mark.timeout(180)


class Market:
    """A client of workers without webhooks, and what they published."""

    def __init__(
        self, kafka: str, env: dict[str, str], platforms: PlatformsStandIn, client: Shop
    ) -> None:
        self.kafka = kafka
        self.env = env
        self.platforms = platforms
        self.client = client
        self.topics = Topics("billing-stream", env["BILLING_TOPIC_PREFIX"])

    async def open(self, platform: str) -> dict[str, Any]:
        """A purchase that waits for its payment."""
        body = {"pack": "small", "platform": platform, "return_url": "https://app.example/back"}
        opened = (await self.client.insist("POST", PURCHASES, body)).data
        found = await self.client.insist("GET", f"{PURCHASES}/{opened['purchase_id']}")
        return dict(found.data)

    async def credited(self) -> list[str]:
        """The purchases whose credits were published, each as often as that was."""
        events = (await Audit(self.kafka, self.topics).events())["credits.purchased"]
        return sorted(event["data"]["purchase_id"] for event in events)


@pytest_asyncio.fixture
async def market(kafka: str, prefix: str, folder: Path) -> AsyncIterator[Market]:
    async with stand_in() as platforms:
        env = environment(
            kafka, prefix, BILLING_RECONCILE_EVERY="2s", **settings_of(platforms, DOMAIN)
        )
        await create_topics(env)
        await create_merchants(kafka, prefix, {M1: DOMAIN})
        async with (
            worker(env, folder) as first,
            worker(env, folder) as second,
            shop(DOMAIN, first, second) as client,
        ):
            yield Market(kafka, env, platforms, client)


async def test_paid_purchases_without_webhooks_are_credited_once_each(market: Market) -> None:
    opened = [await market.open(platform) for platform in PLATFORMS]
    unpaid = [await market.open(platform) for platform in PLATFORMS]
    market.platforms.busy = 2

    for purchase in opened:
        market.platforms.pay(purchase["platform_charge_id"])
    for purchase in opened:
        await market.client.until_status(purchase["id"], "completed")

    total = (await market.client.insist("GET", "/api/billing")).data["credits_purchased"]
    assert total == 300
    looked_up = len(market.platforms.asked)
    # The webhooks come after all: each is what the record of the look-up was.
    topic = market.topics.name(PURCHASE_UPDATED)
    records = [r for r in await read_committed(market.kafka, [topic]) if r.value]
    await send_again(market.kafka, records)
    await until(lambda: len(market.platforms.asked) >= looked_up + 3)
    assert await market.credited() == sorted(purchase["id"] for purchase in opened)
    for purchase in unpaid:
        await market.client.until_status(purchase["id"], "pending")
    code, output = await run(market.env, "verify")
    assert code == 0, output


async def until(done: Any) -> None:
    async with asyncio.timeout(60):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def send_again(kafka: str, records: list[Any]) -> None:
    """Write the same records once more."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        for record in records:
            await producer.send_and_wait(
                record.topic, record.value, key=record.key, partition=record.partition
            )
    finally:
        await producer.stop()
