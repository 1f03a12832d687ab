"""From a POST to its answer, at a fixed schedule of requests.

Each starts the trial of another merchant. Latency counts from the time at which a request
was due to be sent (no coordinated omission).
"""

import asyncio
import time

import aiohttp

from bench.load import Load
from bench.setting import Setting, WorkerProcess, say
from billing_stream.dev.client import client_headers

WARM_UP_SECONDS = 5
CONNECTIONS = 32


async def measure(setting: Setting, per_second: int, seconds: int) -> dict[str, float]:
    """p50 and p99 in milliseconds of `POST /api/billing/trials`, warm-up left out."""
    total = per_second * (seconds + WARM_UP_SECONDS)
    await setting.create_topics()
    async with Load(setting, total, 0) as load, WorkerProcess(setting) as worker:
        await load.prepare()
        await worker.start()
        secret = setting.client_secret
        headers = [client_headers(f"{merchant}.example", secret) for merchant in load.merchants]
        url = f"{worker.url}/api/billing/trials"
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(connector=connector) as session:
            await _all_known(session, worker.url, headers)
            say(f"starting {per_second} trials/s for {seconds + WARM_UP_SECONDS} s")
            took = await _on_schedule(session, url, headers, per_second)
    found = sorted(took[per_second * WARM_UP_SECONDS :])
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


async def _on_schedule(
    session: aiohttp.ClientSession, url: str, headers: list[dict[str, str]], per_second: int
) -> list[float]:
    """Seconds from due to answered, by number; RuntimeError when one is refused."""
    start = time.monotonic() + 0.2
    took = [0.0] * len(headers)

    async def one(number: int) -> None:
        due = start + number / per_second
        async with session.post(url, headers=headers[number]) as response:
            if response.status != 201:
                raise RuntimeError(f"{response.status}: {await response.text()}")
            await response.read()
        took[number] = time.monotonic() - due

    running = []
    for number in range(len(headers)):
        await asyncio.sleep(max(0.0, start + number / per_second - time.monotonic()))
        running.append(asyncio.create_task(one(number)))
    await asyncio.gather(*running)
    return took
