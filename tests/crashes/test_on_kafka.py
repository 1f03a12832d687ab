"""Real workers on a real broker end hard (exit 86) at every labelled point.

Each time with commands of all kinds, webhooks, bad records and due trials in work, on all
partitions at once; then the same worker starts again, or another one takes over. `make test`
has all of it: under four minutes on two busy cores.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from billing_stream.engine.crash_points import CrashPoint
from billing_stream.engine.partitioner import partition_of
from billing_stream.records.topics import Topics
from tests.crashes.workers import CrashingWorker, Everything, check_all, check_lag, until
from tests.support.audit import Audit
from tests.support.nodes import Reply
from tests.support.shop import Shop, create_merchants, shop
from tests.support.worker import create_topics, environment

SEED = 20260201
PARTITIONS = 4
MERCHANTS = 24
IN_RECOVERY = (
    CrashPoint.JOINED,
    CrashPoint.FENCED,
    CrashPoint.RECOVERING,
    CrashPoint.SOUGHT,
)
PURCHASES = "/api/billing/purchases"
TRIALS = "/api/billing/trials"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://app.example/back"}

pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]


@dataclass
class Scene:
    """Workers, traffic, and an audit after each crash."""

    workers: list[CrashingWorker]
    traffic: Everything
    audit: Audit

    async def verify(self, point: CrashPoint) -> None:
        """All that was sent until now has happened once."""
        try:
            await until(lambda: check_all(self.audit, self.traffic))
        except AssertionError as wrong:
            raise AssertionError(f"after a crash at {point}: {wrong}") from wrong


@asynccontextmanager
async def scene(
    kafka: str, prefix: str, folder: Path, *workers: str, **extra: str
) -> AsyncIterator[Scene]:
    """Workers by their names, not started; killed at the end."""
    env = environment(
        kafka, prefix, BILLING_PARTITIONS=str(PARTITIONS), TRIAL_DURATION="2s", **extra
    )
    await create_topics(env)
    found = [CrashingWorker({**env, "BILLING_WORKER_NAME": name}, folder) for name in workers]
    async with Everything(kafka, prefix, PARTITIONS, SEED) as traffic:
        try:
            yield Scene(found, traffic, Audit(kafka, Topics("billing-stream", prefix)))
        finally:
            await asyncio.gather(*(worker.kill() for worker in found))


async def ready_or_crashed(worker: CrashingWorker) -> None:
    """Ready, or ended by its first transaction, which stores the logs of inputs never read."""
    with suppress(RuntimeError):
        await worker.ready()


async def test_the_same_worker_starts_again(kafka: str, prefix: str, folder: Path) -> None:
    async with scene(kafka, prefix, folder, "one") as found:
        (worker,) = found.workers
        for point in CrashPoint:
            await found.traffic.merchants(MERCHANTS)
            # In recovery there is an open transaction of the worker's last life to be ended.
            await worker.start_to_crash(CrashPoint.SENT if point in IN_RECOVERY else point)
            await worker.crashed()
            if point in IN_RECOVERY:
                await worker.start_to_crash(point)
                await worker.crashed()

            await worker.start()
            await found.verify(point)
            await worker.kill()

        await worker.start()
        await until(lambda: check_lag(found.audit))


async def test_another_worker_takes_over(kafka: str, prefix: str, folder: Path) -> None:
    async with scene(kafka, prefix, folder, "one", "two") as found:
        crashing, other = found.workers
        await other.start()
        await other.ready()
        for point in CrashPoint:
            await crashing.start_to_crash(point)
            if point not in IN_RECOVERY:
                await ready_or_crashed(crashing)
            await found.traffic.merchants(MERCHANTS)
            await crashing.crashed()

            await found.verify(point)
            assert other.running, other.tail()

        await until(lambda: check_lag(found.audit))


async def test_crashes_in_the_middle_of_posts_leave_one_true_answer(
    kafka: str, prefix: str, folder: Path
) -> None:
    points = [point for point in CrashPoint if point not in IN_RECOVERY]
    async with scene(kafka, prefix, folder, "one", "two") as found:
        crashing, other = found.workers
        merchants = one_per_partition()
        await create_merchants(kafka, prefix, merchants)
        await other.start()
        await other.ready()
        for turn, point in enumerate(points):
            await crashing.start_to_crash(point)
            await ready_or_crashed(crashing)

            first = await asyncio.gather(
                *(buy_and_try(domain, turn, crashing, other) for domain in merchants.values())
            )
            await crashing.crashed()

            again = await asyncio.gather(
                *(buy_and_try(domain, turn, other) for domain in merchants.values())
            )
            assert again == first, f"after a crash at {point}"
            assert other.running, other.tail()

        await check_events(found.audit, set(merchants), len(points))


async def buy_and_try(domain: str, turn: int, *workers: CrashingWorker) -> list[str]:
    """Buy and start the trial, each three times at once under one key: the two answers."""
    async with shop(domain, *workers) as client:
        bought, tried = await asyncio.gather(
            thrice(client, PURCHASES, BUY, f"buy-{turn}"), thrice(client, TRIALS, None, "trial")
        )
    return [bought, tried]


async def thrice(client: Shop, path: str, body: object, key: str) -> str:
    """The one answer to three copies of a request."""
    replies: list[Reply] = await asyncio.gather(
        *(client.insist("POST", path, body, Idempotency_Key=key) for _ in range(3))
    )
    assert {reply.status for reply in replies} == {201}, replies
    assert len({reply.without_ids for reply in replies}) == 1, replies
    return replies[0].without_ids


async def check_events(audit: Audit, merchants: set[str], purchases: int) -> None:
    """One trial each, and as many purchases as there were keys."""
    events = await audit.events()
    started = [event["data"]["merchant_id"] for event in events["trial.started"]]
    assert sorted(started) == sorted(merchants)
    rows = (await audit.table("credit_purchases")).values()
    for merchant in merchants:
        assert len([r for r in rows if r["merchant_id"] == merchant]) == purchases


def one_per_partition() -> dict[str, str]:
    """Merchants, one of each partition, with their domains."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < PARTITIONS:
        merchant = str(uuid.UUID(int=number, version=4))
        found.setdefault(partition_of(merchant, PARTITIONS), merchant)
        number += 1
    return {merchant: f"shop-{partition}.example" for partition, merchant in found.items()}
