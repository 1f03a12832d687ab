"""Who is cut off knows in time that others may own its partitions."""

import asyncio
import logging
from pathlib import Path

import aiohttp
import pytest

from billing_stream.engine.lease import Lease
from billing_stream.observability.logs import RepeatFilter
from tests.support.partition import Partition
from tests.support.shop import create_merchants, shop
from tests.support.tokens import client_headers
from tests.support.worker import create_topics, environment, worker

M1 = "11111111-1111-4111-8111-111111111111"


def test_a_lease_ends_a_session_after_the_heartbeat_was_sent() -> None:
    now = 100.0
    lease = Lease(8.0, lambda: now)
    assert not lease.held

    sent = lease.now()
    now += 5
    lease.renew(sent)

    assert lease.held
    now = sent + 7.9
    assert lease.held
    now = sent + 8.0
    assert not lease.held
    lease.renew(sent - 50)
    assert not lease.held


async def test_lanes_without_a_lease_are_not_ready() -> None:
    partition = await Partition().restart()
    now = 0.0
    lease = Lease(8.0, lambda: now)
    partition.lanes._lease = lease

    before = partition.lanes.ready
    lease.renew(now)

    assert not before
    assert partition.lanes.ready
    now = 9.0
    assert not partition.lanes.ready


@pytest.mark.timeout(90)
async def test_a_worker_away_for_a_session_answers_nothing_from_old_rows(
    kafka: str, prefix: str, folder: Path
) -> None:
    """Paused, and taken over by another; when it wakes it must not speak for the partition."""
    env = environment(kafka, prefix)
    await create_topics(env)
    shops = {f"{n:08x}-0000-4000-8000-000000000000": f"s{n}.example" for n in range(12)}
    async with worker(env, folder) as first, worker(env, folder) as second:
        await create_merchants(kafka, prefix, {M1: "s.example"})
        async with shop("s.example", first, second):
            pass
        first.pause()
        await create_merchants(kafka, prefix, shops)
        for domain in shops.values():
            async with shop(domain, second):
                pass
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
            asked = [
                asyncio.ensure_future(_status(session, domain, first.url))
                for domain in shops.values()
            ]
            await asyncio.sleep(0.5)
            first.resume()
            statuses = await asyncio.gather(*asked)

    assert 404 not in statuses, statuses


async def _status(session: aiohttp.ClientSession, domain: str, url: str) -> int:
    try:
        async with session.get(f"{url}/api/billing", headers=client_headers(domain)) as response:
            return response.status
    except (aiohttp.ClientError, TimeoutError):
        return 0


def test_what_the_client_repeats_is_told_seldom_and_counted() -> None:
    sparing = RepeatFilter(seconds=10)

    def record(name: str, created: float) -> logging.LogRecord:
        made = logging.LogRecord(name, logging.ERROR, "client.py", 7, "no broker", (), None)
        made.created = created
        return made

    told = [second for second in range(25) if sparing.filter(record("aiokafka.x", second))]
    last = record("aiokafka.x", 30.0)

    assert told == [0, 10, 20]
    assert sparing.filter(last)
    assert last.__dict__["suppressed"] == 4
