"""Prices that change while a worker runs, on a real Kafka."""

import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.platforms.fake import Reply, fake_platform
from tests.support.audit import Audit, read_committed
from tests.support.projection import until
from tests.support.shop import create_merchants, shop
from tests.support.worker import create_topics, environment, run, worker
from tests.web.test_payments_on_kafka import CUSTOM_SECRET, M1, PURCHASES, Market

pytestmark = pytest.mark.timeout(180)

DOMAIN = "one.myshopify.com"
NEW = {"medium": {"credits": 600, "title": "Summer", "price": {"USD": "29.99"}}}
BUY = {"platform": "custom", "return_url": "https://app.example/back"}


async def test_a_price_changes_while_the_worker_runs(kafka: str, prefix: str, folder: Path) -> None:
    topics = Topics("billing-stream", prefix)
    async with fake_platform() as fake:
        env = environment(
            kafka,
            prefix,
            CUSTOM_GATEWAY_URL=fake.url + "/checkouts",
            CUSTOM_GATEWAY_SECRET=CUSTOM_SECRET,
        )
        await create_topics(env)
        await create_merchants(kafka, prefix, {M1: DOMAIN})
        async with worker(env, folder) as running, shop(DOMAIN, running) as client:
            market = Market(client, [running], fake, Audit(kafka, topics))
            fake.replies(Reply(body={"charge_id": "c-1", "checkout_url": "https://pay.example/1"}))
            old = await client.insist("POST", PURCHASES, {**BUY, "pack": "small"})
            said = {"command": "set_catalogue", "by": "ann@host", "reason": "summer", "packs": NEW}
            async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
                topic = topics.name(names.OPERATOR_COMMANDS)
                await producer.send_and_wait(topic, json.dumps(said).encode(), partition=0)

            async def changed() -> bool:
                packs = (await client.insist("GET", "/api/billing/packs")).data
                return [pack["pack"] for pack in packs] == ["medium"]

            await until(changed, 30, "the new packs")
            retired = await client.insist("POST", PURCHASES, {**BUY, "pack": "small"})
            fake.replies(Reply(body={"charge_id": "c-2", "checkout_url": "https://pay.example/2"}))
            new = await client.insist("POST", PURCHASES, {**BUY, "pack": "medium"})
            for charge in ("c-1", "c-2"):
                await market.custom({"charge_id": charge, "merchant_id": M1, "status": "accepted"})
            for opened in (old, new):
                await client.until_status(opened.data["purchase_id"], "completed")
            events = await market.events("credits.purchased")
            total = await market.total()

        verified, replayed = await run(env, "verify"), await run(env, "replay")

    sold = [(e["pack"], e["credits"], e["amount"], e["catalogue_version"]) for e in events]
    assert sorted(sold) == [("medium", 600, "29.99", 1), ("small", 100, "9.99", None)]
    assert (retired.status, retired.code) == (422, "INVALID_PACK")
    assert total == 700
    (version,) = [
        json.loads(record.value)
        for record in await read_committed(kafka, [topics.name(names.CATALOGUE)])
        if b"packs" in (record.value or b"")
    ]
    assert (version["by"], version["reason"]) == ("ann@host", "summer")
    for code, output in (verified, replayed):
        assert code == 0, output
