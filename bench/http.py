"""From a POST to its response: trials at a fixed rate; purchases as fast as they can, then at half.

Checkouts are those of the local platform (APP_ENV=test), which answers in the same process. Latency
counts from the time at which a request was due to be sent (no coordinated omission).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from bench.load import Load
from bench.setting import Setting, WorkerProcess, say
from billing_stream.dev.client import client_headers

WARM_UP_SECONDS = 5
CONNECTIONS = 32
MERCHANTS = 2_000
PURCHASE = {"pack": "small", "platform": "shopify", "return_url": "https://shop.example/back"}

Figures = dict[str, float]
Post = Callable[[int], Awaitable[None]]
"""Sends the request with this number; RuntimeError when it is refused."""


async def measure(setting: Setting, per_second: int, seconds: int) -> Figures:
    """p50 and p99 in milliseconds of `POST /api/billing/trials`, warm-up left out."""
    total = per_second * (seconds + WARM_UP_SECONDS)
    async with _worker(setting, total) as client:
        say(f"starting {per_second} trials/s for {seconds + WARM_UP_SECONDS} s")
        took = await _on_schedule(client.poster("trials"), total, per_second)
    return _percentiles(took[per_second * WARM_UP_SECONDS :])


async def purchases(setting: Setting, seconds: int) -> Figures:
    """`POST /api/billing/purchases`: the peak per second, then p50 and p99 in ms at half of it.

    The peak is what `CONNECTIONS` clients get, each of which waits for its response.
    """
    async with _worker(setting, MERCHANTS) as client:
        post = client.poster("purchases", PURCHASE)
        say(f"opening purchases on {CONNECTIONS} connections for {seconds + WARM_UP_SECONDS} s")
        peak = await _peak(post, seconds)
        half = max(1, int(peak / 2))
        say(f"opening {half} purchases/s for {seconds + WARM_UP_SECONDS} s")
        took = await _on_schedule(post, half * (seconds + WARM_UP_SECONDS), half)
    return {
        "peak_per_s": peak,
        "per_second": float(half),
        **_percentiles(took[half * WARM_UP_SECONDS :]),
    }


@dataclass(frozen=True)
class _Client:
    session: aiohttp.ClientSession
    url: str
    headers: list[dict[str, str]]

    def poster(self, resource: str, body: dict[str, Any] | None = None) -> Post:
        """Requests for the merchants in turn."""

        async def post(number: int) -> None:
            headers = self.headers[number % len(self.headers)]
            url = f"{self.url}/api/billing/{resource}"
            async with self.session.post(url, headers=headers, json=body) as response:
                if response.status != 201:
                    raise RuntimeError(f"{response.status}: {await response.text()}")
                await response.read()

        return post


@asynccontextmanager
async def _worker(setting: Setting, merchants: int) -> AsyncIterator[_Client]:
    """A worker that knows N merchants, and a client of them."""
    await setting.create_topics()
    async with Load(setting, merchants, 0) as load, WorkerProcess(setting) as worker:
        await load.prepare()
        await worker.start()
        secret = setting.client_secret
        headers = [client_headers(f"{merchant}.example", secret) for merchant in load.merchants]
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(connector=connector) as session:
            await _all_known(session, worker.url, headers)
            yield _Client(session, worker.url, headers)


async def _peak(post: Post, seconds: int) -> float:
    """Responses per second of clients that each wait for theirs, warm-up left out."""
    begin = time.monotonic() + WARM_UP_SECONDS
    end = begin + seconds
    counted, number = 0, 0

    async def client() -> None:
        nonlocal counted, number
        while time.monotonic() < end:
            number += 1
            await post(number)
            counted += begin <= time.monotonic() < end

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return counted / seconds


def _percentiles(took: list[float]) -> Figures:
    found = sorted(took)
    return {
        "p50_ms": found[len(found) // 2] * 1000,
        "p99_ms": found[int(len(found) * 0.99)] * 1000,
        "max_ms": found[-1] * 1000,
    }


async def _all_known(
    session: aiohttp.ClientSession, url: str, headers: list[dict[str, str]]
) -> None:
    """Wait until the shops of the last merchants are known, on every partition."""
    for one in headers[-200:]:
        while True:
            async with session.get(f"{url}/api/billing", headers=one) as response:
                if response.status == 200:
                    break
            await asyncio.sleep(0.1)


async def _on_schedule(post: Post, count: int, per_second: int) -> list[float]:
    """Seconds from due to response, by number; RuntimeError when one is refused."""
    start = time.monotonic() + 0.2
    took = [0.0] * count

    async def one(number: int) -> None:
        await post(number)
        took[number] = time.monotonic() - start - number / per_second

    running = []
    for number in range(count):
        await asyncio.sleep(max(0.0, start + number / per_second - time.monotonic()))
        running.append(asyncio.create_task(one(number)))
    await asyncio.gather(*running)
    return took
