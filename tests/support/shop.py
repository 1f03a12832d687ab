"""A client of one shop: asks workers over HTTP as the app's backend does."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiokafka import AIOKafkaProducer

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from tests.support.nodes import Reply
from tests.support.tokens import client_headers
from tests.support.worker import Worker

WAIT_SECONDS = 30.0


async def create_merchants(
    kafka: str, prefix: str, shops: dict[str, str], partitions: int = 4
) -> None:
    """Tell that each merchant (by id) installed the app in a Shopify shop (its domain)."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        for merchant_id, domain in shops.items():
            value = {
                "merchant_id": merchant_id,
                "platform_name": "shopify",
                "platform_shop_id": "1",
                "domain": domain,
                "name": "A",
                "email": "a@example.com",
                "installed_at": "2026-01-01T00:00:00Z",
            }
            await producer.send_and_wait(
                prefix + names.MERCHANT_CREATED,
                json.dumps(value).encode(),
                key=merchant_id.encode(),
                partition=partition_of(merchant_id, partitions),
            )
    finally:
        await producer.stop()


class Shop:
    """Asks the given workers in turn, or one of them."""

    def __init__(
        self, session: aiohttp.ClientSession, domain: str, workers: Sequence[Worker]
    ) -> None:
        self._session = session
        self.domain = domain
        self.workers = list(workers)
        self._turn = 0

    async def ask(
        self, method: str, path: str, body: Any = None, *, at: Worker | None = None, **headers: str
    ) -> Reply:
        """One answer; an error when the worker cannot be reached."""
        self._turn += 1
        asked = at or self.workers[self._turn % len(self.workers)]
        sent = client_headers(self.domain, **headers)
        async with self._session.request(
            method, asked.url + path, headers=sent, json=body
        ) as response:
            raw = await response.read()
            return Reply(response.status, response.headers, json.loads(raw), raw)

    async def insist(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Ask until there is an answer that is one: what clients do with 503, 504 and resets."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                reply = await self.ask(method, path, body, at=None, **headers)
                if reply.status not in (503, 504):
                    return reply
                why: Any = reply
            except (aiohttp.ClientError, TimeoutError) as error:
                why = error
            assert time.monotonic() < end, why
            await asyncio.sleep(0.1)

    async def known(self) -> None:
        """Wait until the merchant has a billing record."""
        end = time.monotonic() + WAIT_SECONDS
        while (await self.insist("GET", "/api/billing")).status != 200:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)

    async def until_status(self, purchase_id: str, status: str) -> dict[str, Any]:
        """Wait until the purchase has this status; the purchase."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            reply = await self.insist("GET", f"/api/billing/purchases/{purchase_id}")
            found: dict[str, Any] = reply.data
            if found["status"] == status:
                return found
            assert time.monotonic() < end, found
            await asyncio.sleep(0.05)


@asynccontextmanager
async def shop(domain: str, *workers: Worker) -> AsyncIterator[Shop]:
    """A client of the shop, whose merchant is known when this begins."""
    timeout = aiohttp.ClientTimeout(total=15)
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        client = Shop(session, domain, workers)
        await client.known()
        yield client
