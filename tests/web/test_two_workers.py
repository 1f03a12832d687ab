"""Two real workers on a real Kafka: whichever is asked, the answer is the same."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio

from tests.support.nodes import Reply
from tests.support.tokens import client_headers
from tests.support.traffic import Traffic
from tests.support.worker import Worker, create_topics, environment, worker

PARTITIONS = 4
MERCHANTS = 25
PATHS = ("/api/billing", "/api/billing/trials", "/api/billing/purchases")


class Client:
    """Asks workers, on connections that it keeps."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, asked: Worker, path: str, domain: str) -> Reply:
        """One answer."""
        async with self._session.get(asked.url + path, headers=client_headers(domain)) as found:
            return Reply(found.status, found.headers, await found.json())

    async def until(self, asked: Worker, path: str, domain: str, data: Any) -> None:
        """Ask until this is the data; at most 30 s."""
        end = time.monotonic() + 30
        while True:
            reply = await self.get(asked, path, domain)
            if reply.status == 200 and data(reply.data):
                return
            assert time.monotonic() < end, reply
            await asyncio.sleep(0.1)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield Client(session)


async def send_traffic(kafka: str, prefix: str, seed: int) -> Traffic:
    async with Traffic(kafka, prefix, PARTITIONS, seed) as traffic:
        await traffic.merchants(MERCHANTS)
    return traffic


async def wait_for_all(client: Client, asked: Worker, traffic: Traffic) -> None:
    """Until a worker shows what must come of the traffic."""
    expected = traffic.expected
    for merchant, domain in expected.domains.items():
        statuses = Counter(s for p, s in expected.status.items() if expected.owner[p] == merchant)
        total = expected.totals[merchant]
        available = merchant not in expected.trials
        await client.until(
            asked,
            "/api/billing",
            domain,
            lambda data, total=total, available=available: (
                (data["credits_purchased"], data["trial"]["available"]) == (total, available)
            ),
        )
        await client.until(
            asked,
            "/api/billing/purchases",
            domain,
            lambda data, statuses=statuses: Counter(p["status"] for p in data) == statuses,
        )


async def everything(client: Client, asked: Worker, traffic: Traffic) -> dict[str, Any]:
    """All that can be read at a worker; every answer must be a good one."""
    found = {}
    for domain in traffic.expected.domains.values():
        for path in PATHS:
            found[domain + path] = (await client.get(asked, path, domain)).data
        for purchase in found[domain + "/api/billing/purchases"]:
            path = f"/api/billing/purchases/{purchase['id']}"
            found[domain + path] = (await client.get(asked, path, domain)).data
            assert found[domain + path] == purchase
    return found


async def watch(client: Client, asked: Worker, domain: str, until: asyncio.Event) -> Counter[int]:
    """Ask again and again; the statuses that came. 0: no connection."""
    seen: Counter[int] = Counter()
    while not until.is_set():
        try:
            reply = await client.get(asked, "/api/billing", domain)
        except (aiohttp.ClientError, TimeoutError):
            seen[0] += 1
        else:
            seen[reply.status] += 1
            if reply.status == 503:
                assert reply.code == "NOT_READY"
                assert int(reply.headers["Retry-After"]) > 0
        await asyncio.sleep(0.02)
    return seen


async def test_either_worker_answers_the_same_and_one_alone_answers_all(
    kafka: str, prefix: str, folder: Path, client: Client
) -> None:
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS))
    await create_topics(env)
    traffic = await send_traffic(kafka, prefix, seed=7)
    async with worker(env, folder) as first, worker(env, folder) as second:
        await wait_for_all(client, first, traffic)
        await first.ready()
        owned = [
            len((await client.get(asked, "/ready", "x")).data["partitions"])
            for asked in (first, second)
        ]
        assert owned == [2, 2]

        by_first = await everything(client, first, traffic)
        by_second = await everything(client, second, traffic)
        assert by_first == by_second
        strangers = [
            await client.get(asked, "/api/billing", "no.example") for asked in (first, second)
        ]
        assert [reply.code for reply in strangers] == ["MERCHANT_NOT_FOUND"] * 2

        over = asyncio.Event()
        domains = list(traffic.expected.domains.values())[:6]
        watching = [asyncio.ensure_future(watch(client, second, d, over)) for d in domains]
        await first.kill()
        await asyncio.sleep(0.5)
        await wait_for_all(client, second, traffic)
        by_survivor = await everything(client, second, traffic)
        over.set()
        seen = sum(await asyncio.gather(*watching), Counter())

        assert by_survivor == by_first
        assert set(seen) == {200, 503}


async def test_while_a_worker_starts_or_joins_nothing_is_said_to_be_missing(
    kafka: str, prefix: str, folder: Path, client: Client
) -> None:
    env = environment(kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS))
    await create_topics(env)
    traffic = await send_traffic(kafka, prefix, seed=8)
    domains = list(traffic.expected.domains.values())[:6]
    async with worker(env, folder) as first:
        await wait_for_all(client, first, traffic)
        assert await first.stop() == 0

        second, third = Worker(env, folder), Worker(env, folder)
        over = asyncio.Event()
        watching = [
            asyncio.ensure_future(watch(client, asked, domain, over))
            for asked in (second, third)
            for domain in domains
        ]
        try:
            await second.start()
            await second.ready()
            await third.start()
            await third.ready()
            await wait_for_all(client, third, traffic)
            await wait_for_all(client, second, traffic)
            assert await everything(client, second, traffic) == await everything(
                client, third, traffic
            )
        finally:
            over.set()
            await asyncio.gather(second.kill(), third.kill())
        seen = sum(await asyncio.gather(*watching), Counter())

        assert set(seen) == {0, 200, 503}
