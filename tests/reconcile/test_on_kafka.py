"""Real workers on a real Kafka, whose platforms send no webhook at all."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

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


@pytest.mark.full
async def test_the_command_reports_and_sends_what_webhooks_missed(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with stand_in() as platforms:
        env = environment(
            kafka, prefix, BILLING_RECONCILE="false", **settings_of(platforms, DOMAIN)
        )
        await create_topics(env)
        await create_merchants(kafka, prefix, {M1: DOMAIN})
        async with worker(env, folder) as first, shop(DOMAIN, first) as client:
            market = Market(kafka, env, platforms, client)
            opened = [await market.open(platform) for platform in PLATFORMS]
            ids = {purchase["id"] for purchase in opened}
            for purchase in opened:
                platforms.pay(purchase["platform_charge_id"])

            code, output = await run(env, "reconcile", "--dry-run", "--json")
            report = json.loads(output)
            assert (code, report["sent"], report["asked"]) == (1, 3, 3)
            assert {one["purchase_id"] for one in report["findings"]} == ids
            assert {one["difference"] for one in report["findings"]} == {"paid and not credited"}
            assert await market.credited() == []

            code, output = await run(env, "reconcile")
            assert (code, "paid and not credited: 3" in output) == (1, True), output
            for purchase in opened:
                await client.until_status(purchase["id"], "completed")

            platforms.undelivered = refunds_of(opened[1], platforms)
            code, output = await run(env, "reconcile", "--json")
            assert (code, json.loads(output)["undelivered"]) == (0, 1), output
            await client.until_status(opened[1]["id"], "refunded")
            code, output = await run(env, "reconcile", "--json")
            assert code == 0, output
            assert await market.credited() == sorted(ids)
            assert (await client.insist("GET", "/api/billing")).data["credits_purchased"] == 200


def refunds_of(purchase: dict[str, Any], platforms: PlatformsStandIn) -> list[dict[str, Any]]:
    """Undelivered events of Stripe: one refund of this purchase, and others of no concern."""
    charge = {
        "id": "ch_1",
        "object": "charge",
        "payment_intent": "pi_1",
        "amount": 999,
        "amount_refunded": 999,
        "currency": "usd",
        "metadata": platforms.charges[purchase["platform_charge_id"]]["metadata"],
    }
    created = int(time.time())
    refund = {"id": "evt_r", "object": "event", "type": "charge.refunded", "created": created}
    others = [{"id": f"evt_{n}", "type": "v2.core.event", "created": created} for n in range(150)]
    old = {**refund, "id": "evt_old", "created": created - 40 * 86_400}
    return [old, {**refund, "data": {"object": charge}}, *others]


async def until(done: Any) -> None:
    async with asyncio.timeout(60):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def send_again(kafka: str, records: list[Any]) -> None:
    """Write the same records once more."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        for record in records:
            await producer.send_and_wait(
                record.topic, record.value, key=record.key, partition=record.partition
            )
    finally:
        await producer.stop()
