"""Real workers on a real broker, and what can happen to them. Named by the fault.

After each: every event exactly once, the table rebuilt from its changelog equal to what
the traffic must lead to, what the workers answer over HTTP equal to that, and no lag.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from billing_stream.records.topics import Topics
from tests.support.audit import Audit
from tests.support.tokens import client_headers
from tests.support.traffic import Traffic
from tests.support.worker import Worker, create_topics, environment

SESSION_SECONDS = 3
SETTLE_SECONDS = 60
SEED = 20260101

pytestmark = pytest.mark.timeout(240)


class Scene:
    """Two workers, traffic, and an audit at the end."""

    def __init__(self, kafka: str, prefix: str, folder: Path, traffic: Traffic) -> None:
        env = environment(kafka, prefix, BILLING_SESSION_TIMEOUT=f"{SESSION_SECONDS}s")
        self.env = env
        self.traffic = traffic
        self.audit = Audit(kafka, Topics("billing-stream", prefix))
        self.workers = [Worker(env, folder), Worker(env, folder)]
        self._load: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Topics, workers, and traffic that goes on meanwhile."""
        await create_topics(self.env)
        await asyncio.gather(*(worker.start() for worker in self.workers))
        await asyncio.gather(*(worker.ready() for worker in self.workers))

    def begin_load(self, rounds: int) -> None:
        """About 1,000 records a second for a fifth of a second a round, and more."""
        self._load = asyncio.create_task(self._run_load(rounds))

    async def _run_load(self, rounds: int) -> None:
        for _ in range(rounds):
            await self.traffic.merchants(40)
            await asyncio.sleep(0.15)

    async def settle(self) -> None:
        """Wait until all traffic is sent and processed, then hold it against what must be."""
        if self._load is not None:
            await self._load
        for worker in self.workers:
            if not worker.running:
                await worker.start()
        await self.audit.wait_for(self.traffic.expected, SETTLE_SECONDS)
        await self.audit.check(self.traffic.expected)
        await self._check_answers()
        await self._check_lag()

    async def _check_answers(self) -> None:
        expected = self.traffic.expected
        await asyncio.gather(*(worker.ready() for worker in self.workers))
        asked = random.Random(SEED).sample(sorted(expected.domains.items()), 30)
        async with aiohttp.ClientSession() as session:
            for merchant, domain in asked:
                for worker in self.workers:
                    url = f"{worker.url}/api/billing/purchases?limit=100"
                    async with session.get(url, headers=client_headers(domain)) as response:
                        body = await response.json()
                    assert response.status == 200, body
                    assert {p["id"]: p["status"] for p in body["data"]} == {
                        purchase: expected.status[purchase]
                        for purchase, owner in expected.owner.items()
                        if owner == merchant
                    }

    async def _check_lag(self) -> None:
        lag: dict[tuple[str, int], int] = {}
        for _ in range(40):
            lag = await self.audit.lag()
            if lag and not any(lag.values()):
                return
            await asyncio.sleep(0.25)
        raise AssertionError(f"lag while idle: { {tp: n for tp, n in lag.items() if n} }")


@asynccontextmanager
async def scene(kafka: str, prefix: str, folder: Path) -> AsyncIterator[Scene]:
    async with Traffic(kafka, prefix, 4, SEED) as traffic:
        found = Scene(kafka, prefix, folder, traffic)
        try:
            await found.start()
            yield found
        finally:
            await asyncio.gather(*(worker.kill() for worker in found.workers))


@pytest.mark.full
async def test_workers_killed_under_load_and_started_again(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with scene(kafka, prefix, folder) as found:
        found.begin_load(50)
        for turn in range(5):
            await asyncio.sleep(1.2)
            victim = found.workers[turn % 2]
            await victim.kill()
            await victim.start()

        await found.settle()


async def test_a_worker_killed_under_load_and_taken_over_by_the_other(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with scene(kafka, prefix, folder) as found:
        found.begin_load(40)
        await asyncio.sleep(1.5)
        await found.workers[0].kill()
        await asyncio.sleep(SESSION_SECONDS + 2)

        assert found.workers[1].running, "\n".join(worker.tail() for worker in found.workers)
        await found.settle()


async def test_a_zombie_that_wakes_up_is_fenced_and_writes_nothing(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with scene(kafka, prefix, folder) as found:
        found.begin_load(60)
        for turn in range(3):
            await asyncio.sleep(1.0)
            zombie = found.workers[turn % 2]
            zombie.pause()
            await asyncio.sleep(SESSION_SECONDS * 1.7)
            zombie.resume()
            await asyncio.sleep(1.5)
            # It is a member of the group again, without what the other has taken over.
            assert zombie.running, zombie.tail()

        await found.settle()


@pytest.mark.full
async def test_workers_that_join_and_leave_under_load(
    kafka: str, prefix: str, folder: Path
) -> None:
    async with scene(kafka, prefix, folder) as found:
        found.begin_load(50)
        for turn in range(4):
            await asyncio.sleep(1.0)
            leaving = found.workers[turn % 2]
            await leaving.answers()
            assert await leaving.stop() == 0, leaving.tail()
            await asyncio.sleep(0.5)
            await leaving.start()

        await found.settle()
