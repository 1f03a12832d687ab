"""The log of a real worker that is fed what must not be in it, and a request that is followed."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from billing_stream.records import topics as names
from tests.support.shop import create_merchants, shop
from tests.support.tokens import client_headers
from tests.support.worker import (
    CLIENT_SECRET,
    INTERNAL_SECRET,
    Worker,
    create_topics,
    environment,
    worker,
)

MERCHANT = "11111111-1111-4111-8111-111111111111"
NAME, EMAIL, DOMAIN = "Annabel Poisonwood", "annabel@poisonwood.example", "poisonwood.example"
TOKEN = "shpat_poison0123456789"


def lines(running: Worker) -> list[dict[str, Any]]:
    return [json.loads(line) for line in running.log.read_text().splitlines()]


async def until(there: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        await asyncio.sleep(0.1)


async def test_a_worker_logs_json_follows_requests_and_names_nobody(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(
        kafka,
        prefix,
        BILLING_LOG_FORMAT="json",
        BILLING_LOG_LEVEL="DEBUG",
        BILLING_POISON_IN_A_ROW="50",
    )
    await create_topics(env)
    await create_merchants(kafka, prefix, {MERCHANT: DOMAIN})
    async with worker(env, folder) as running, shop(DOMAIN, running) as client:
        followed = {"X-Correlation-ID": "follow-me-1"}
        reply = await client.insist("POST", "/api/billing/trials", **followed)
        assert reply.headers["X-Correlation-ID"] == "follow-me-1"
        await feed_the_web(running)
        await feed_the_engine(kafka, prefix)
        await until(lambda: "is stopped" in running.log.read_text())
        await asyncio.sleep(2.5)
        event = await first_event(kafka, prefix + "evt.billing.trial.started.v1")
        await running.stop()
        found, text = lines(running), running.log.read_text()

    for one in found:
        assert {"timestamp", "level", "logger", "event"} <= one.keys()
        assert one["timestamp"].endswith("Z")
    for poison in (NAME, "annabel", DOMAIN, TOKEN, CLIENT_SECRET, INTERNAL_SECRET, "eyJ"):
        assert poison.lower() not in text.lower(), poison
    assert event["correlation_id"] == "follow-me-1"
    (line,) = [one for one in found if one.get("correlation_id") == "follow-me-1"]
    assert (line["route"], line["status"]) == ("/api/billing/trials", 201)
    stopped = [one for one in found if "is stopped" in one["event"]]
    assert len(stopped) == len({one["partition"] for one in stopped}), "said each second, told once"
    assert [one for one in found if "\x1b" in one["event"]] == []
    per_record = [
        one
        for one in found
        if one["logger"].startswith(("billing_stream.agents", "billing_stream.tables"))
    ]
    assert per_record == []


async def feed_the_web(running: Worker) -> None:
    """Names, addresses and tokens in every place that a request has."""
    body = {"name": NAME, "email": EMAIL, "token": TOKEN}
    async with aiohttp.ClientSession() as session:
        headers = client_headers(DOMAIN)
        for path in ("/api/billing/trials", f"/api/{EMAIL}", f"/api/billing?shop={DOMAIN}"):
            async with session.post(running.url + path, json=body, headers=headers) as response:
                assert response.status in (404, 405, 422)
        bad = {"Authorization": f"Bearer {TOKEN}", "X-Shop-Domain": DOMAIN, "X-Request-ID": NAME}
        async with session.get(running.url + "/api/billing", headers=bad) as response:
            assert response.status == 401
            assert response.headers["X-Request-ID"] != NAME
        path = f"{running.url}/webhooks/shopify"
        async with session.post(path, json=body, headers={"X-Shopify-Shop-Domain": DOMAIN}) as r:
            assert r.status in (401, 404)


async def feed_the_engine(kafka: str, prefix: str) -> None:
    """So many records of nonsense about people that partitions stop."""
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for number in range(400):
            value = {"merchant_id": EMAIL, "name": NAME, "domain": DOMAIN, "token": TOKEN}
            raw = json.dumps(value) if number % 2 else f"{NAME} {EMAIL} {TOKEN}"
            await producer.send(
                prefix + names.MERCHANT_CREATED, raw.encode(), key=EMAIL.encode(), partition=0
            )


async def first_event(kafka: str, topic: str) -> dict[str, Any]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    async with consumer:
        record = await asyncio.wait_for(consumer.getone(), 10)
    value: dict[str, Any] = json.loads(record.value)
    return value
