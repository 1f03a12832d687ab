"""Real workers that live and cannot get on: they say so, and end."""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from billing_stream.dev.cluster import Cluster
from billing_stream.errors import EXIT_FATAL
from tests.engine import stalled_worker
from tests.support.shop import create_merchants, shop
from tests.support.worker import Worker, create_topics, environment, worker

M1 = "11111111-1111-4111-8111-111111111111"
DOMAIN = "one.example"
SOON = {"BILLING_STUCK_NOT_READY_AFTER": "2s", "BILLING_STUCK_EXIT_AFTER": "6s"}

pytestmark = [pytest.mark.full, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker of this module's own, to be hurt."""
    with Cluster(tmp_path_factory.mktemp("own"), kafka=True) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def env(own: Cluster, prefix: str) -> AsyncIterator[dict[str, str]]:
    assert own.kafka is not None
    # The test before may have frozen it.
    await asyncio.to_thread(own.kafka.wait_ready)
    found = environment(own.bootstrap_servers, prefix, **SOON)
    await create_topics(found)
    yield found


async def readiness(asked: Worker) -> tuple[int, str]:
    """Status and text of /ready; 0 without an answer."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.get(asked.url + "/ready") as response,
        ):
            return response.status, await response.text()
    except (aiohttp.ClientError, TimeoutError):
        return 0, ""


async def seen_until_it_ends(asked: Worker, seconds: float) -> list[tuple[int, str]]:
    """What /ready says until the process ends."""
    seen = []
    end = time.monotonic() + seconds
    while asked.running:
        assert time.monotonic() < end, asked.tail()
        seen.append(await readiness(asked))
        await asyncio.sleep(0.3)
    return seen


async def test_a_worker_whose_commits_hang_is_not_ready_and_ends(
    own: Cluster, env: dict[str, str], prefix: str, folder: Path
) -> None:
    await create_merchants(own.bootstrap_servers, prefix, {M1: DOMAIN})
    async with worker(env, folder) as one, shop(DOMAIN, one) as client:
        assert own.kafka is not None
        assert own.kafka.server.process is not None
        broker = own.kafka.server.process.pid
        os.killpg(broker, signal.SIGSTOP)
        try:
            asked = asyncio.ensure_future(client.ask("POST", "/api/billing/trials"))
            seen = await seen_until_it_ends(one, 30)
            await asyncio.gather(asked, return_exceptions=True)
        finally:
            os.killpg(broker, signal.SIGCONT)

        assert any(status == 503 and "work waiting" in text for status, text in seen)
        assert one.process.returncode == EXIT_FATAL
        # Of the two that stand still, whichever was noticed first.
        assert re.search(r"(had work waiting|not been fetched) for \d+ s", one.tail())


async def test_a_worker_that_fetches_no_more_is_not_ready_and_ends(
    own: Cluster, env: dict[str, str], prefix: str, folder: Path
) -> None:
    async with worker(env, folder) as one:
        await one.kill()
        one.command = [sys.executable, stalled_worker.__file__, str(stalled_worker.FETCHES)]
        await one.start()
        await one.ready()
        # By then it has fetched that often, and nothing; the merchants come too late.
        await asyncio.sleep(6)
        shops = {f"{n:08x}-0000-4000-8000-000000000000": f"s{n}.example" for n in range(8)}
        await create_merchants(own.bootstrap_servers, prefix, shops)

        seen = await seen_until_it_ends(one, 40)

        assert any(status == 503 and "have not been fetched" in text for status, text in seen)
        assert one.process.returncode == EXIT_FATAL


async def test_a_worker_whose_broker_is_gone_for_good_ends_when_it_is_told_to(
    own: Cluster, env: dict[str, str], prefix: str, folder: Path
) -> None:
    await create_merchants(own.bootstrap_servers, prefix, {M1: DOMAIN})
    async with worker(env, folder) as one, shop(DOMAIN, one) as client:
        assert own.kafka is not None
        await asyncio.sleep(2)
        own.kafka.kill()
        try:
            asked: Any = asyncio.ensure_future(client.ask("POST", "/api/billing/trials"))
            await asyncio.sleep(0.5)
            one.signal(signal.SIGTERM)
            await asyncio.wait_for(one.process.wait(), 30)
            await asyncio.gather(asked, return_exceptions=True)
        finally:
            own.kafka.start()
