"""One and then two of three real brokers are away: the doctor says so, and the worker waits."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from billing_stream.dev.client import client_headers
from billing_stream.dev.cluster import Cluster
from tests.support.worker import CLIENT_SECRET, Worker, create_topics, environment, run, worker

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(900)]
SECONDS_MAX = 180.0
SHOP = "anna.example"
Found = dict[str, list[dict[str, Any]]]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three brokers."""
    with Cluster(tmp_path / "kafka", brokers=3) as made:
        yield made


async def doctor(env: dict[str, str]) -> Found:
    """What it finds, by check."""
    code, output = await run(env, "doctor", "--json", "--timeout", "30")
    found: Found = {}
    for one in json.loads(output):
        found.setdefault(one["check"], []).append(one)
    failing = any(one["verdict"] == "FAIL" for some in found.values() for one in some)
    assert code == int(failing)
    return found


async def until(ask: Callable[[], Awaitable[Any]], good: Callable[[Any], bool]) -> Any:
    """Ask until the answer is good. Raises TimeoutError."""
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            answer = await ask()
            if good(answer):
                return answer
            await asyncio.sleep(0.5)


async def ready(of: Worker) -> tuple[int, str]:
    """The status and text of `/ready`."""
    async with aiohttp.ClientSession() as session, session.get(f"{of.url}/ready") as response:
        return response.status, await response.text()


async def start_trial(of: Worker) -> int:
    """Ask for the shop's trial, each time with the same key."""
    headers = {**client_headers(SHOP, CLIENT_SECRET), "Idempotency-Key": "trial"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{of.url}/api/billing/trials", headers=headers) as response,
    ):
        return response.status


def said(found: Found, check: str) -> str:
    """All that is said and advised about something."""
    return "\n".join(f"{one['verdict']} {one['said']} {one['todo']}" for one in found[check])


async def test_brokers_that_are_away_are_named_and_the_worker_waits_for_them(
    cluster: Cluster, prefix: str, folder: Path
) -> None:
    first, second, third = cluster.brokers.nodes
    env = environment(
        cluster.bootstrap_servers,
        prefix,
        BILLING_REPLICATION_FACTOR="3",
        BILLING_SESSION_TIMEOUT="8s",
        BILLING_STUCK_EXIT_AFTER="40s",
        BILLING_STUCK_NOT_READY_AFTER="20s",
    )
    await create_topics(env)
    async with worker(env, folder) as one:
        well = await until(lambda: doctor(env), lambda found: "OK" in said(found, "replicas"))
        assert said(well, "brokers").startswith("OK 3 at ")
        code, output = await run(env, "dev", "merchant", SHOP)
        assert code == 0, output

        first.kill()
        away = await until(lambda: doctor(env), lambda found: "WARN" in said(found, "replicas"))
        brokers = said(away, "brokers")
        assert brokers.startswith("FAIL 2 of 3 answer")
        assert f"; away: {first.bootstrap_servers}: " in brokers
        assert "BILLING_REPLICATION_FACTOR" not in brokers
        # The other checks go on.
        assert {"topics", "rights", "workers", "state"} <= away.keys()
        assert said(away, "topics").startswith("OK")

        second.kill()
        await until(
            lambda: ready(one),
            lambda answer: answer[0] == 503 and "min.insync.replicas" in answer[1],
        )
        most_away = await doctor(env)
        assert said(most_away, "brokers").startswith("FAIL 1 of 3 answer")
        assert "nothing can be written there" in said(most_away, "replicas")
        # Longer than a worker may be stuck for another reason.
        assert await start_trial(one) in (503, 504)
        await asyncio.sleep(60)
        assert one.running, one.tail()
        assert "brokers are away, and work waits for them" in one.log.read_text()

        for broker in (first, second):
            broker.launch()
        await until(lambda: ready(one), lambda answer: answer[0] == 200)
        await until(lambda: start_trial(one), lambda status: status == 201)
        assert one.running
        back = await until(lambda: doctor(env), lambda found: "OK" in said(found, "replicas"))
        assert said(back, "brokers").startswith("OK 3 at ")
    assert third.server.alive
