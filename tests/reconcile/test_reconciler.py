"""What a worker asks platforms about unpaid purchases, and what comes of the answers."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.domain.commands import UpdateCharge
from billing_stream.engine.partitioner import partition_of
from billing_stream.errors import PlatformError, TemporaryFailure
from billing_stream.platforms.base import FoundCharge, PlatformEvent, PlatformEventKind
from billing_stream.platforms.platform_http import TryLater
from billing_stream.reconcile.reconciler import Reconciler
from billing_stream.records.topics import PURCHASE_UPDATED
from tests.support.nodes import PARTITIONS, Cluster, Node, cluster
from tests.web.conftest import M1, M2

SHOP = "one.example"
EVERY = timedelta(minutes=5)
START = datetime.now(UTC) - timedelta(days=2)


def charge(number: int) -> str:
    return f"gid://shopify/AppPurchaseOneTime/{number}"


def says(number: int, status: str) -> FoundCharge:
    """What the platform answers, as the webhook with this status."""
    event = PlatformEvent(
        kind=PlatformEventKind.UPDATED,
        charge_id=charge(number),
        status=status,
        shop_domain=SHOP,
        delivery_id="reconcile",
    )
    return FoundCharge.of(event, "9.99", "USD")


class Market:
    """Two workers whose platform delivers no webhook, and the look-ups of each."""

    def __init__(self, workers: Cluster) -> None:
        self.workers = workers
        self.platform = workers.platform
        self.reconcilers: list[Reconciler] = [self._new(node) for node in workers.nodes]
        self.tasks = [asyncio.create_task(r._look_up_queued()) for r in self.reconcilers]
        self.at(0)

    def _new(self, node: Node) -> Reconciler:
        return Reconciler(
            node.lanes,
            node.context.platforms,
            node.ingress,
            node.metrics,
            every=EVERY,
            concurrency=1,
            max_record_bytes=100_000,
        )

    def at(self, minutes: float) -> None:
        """It is so many minutes after the start, at every worker."""
        for node in self.workers.nodes:
            node.now = START + timedelta(minutes=minutes)

    async def scan(self) -> list[str]:
        """One scan of each worker; the charges that were looked up, and their records taken."""
        before = len(self.platform.looked_up)
        for one in self.reconcilers:
            await one.scan()
            await one.idle()
        await self.take()
        return [query.charge_id for query in self.platform.looked_up[before:]]

    async def take(self) -> None:
        """Let the lanes take the records at the time that it is."""
        await self.workers.take_webhooks()

    async def status(self, purchase_id: str) -> str:
        reply = await self.workers.nodes[0].get(f"/api/billing/purchases/{purchase_id}", SHOP)
        return str(reply.data["status"])

    def credited(self) -> int:
        """How often credits were published."""
        return len(self.workers.events("credits.purchased"))

    def metric(self, name: str, **labels: str) -> float:
        """The sum over both workers."""
        found = [n.metrics.registry.get_sample_value(name, labels) for n in self.workers.nodes]
        return sum(value or 0.0 for value in found)


@pytest_asyncio.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as workers:
        found = Market(workers)
        await workers.create(M1, SHOP)
        yield found
        for task in found.tasks:
            task.cancel()
        await asyncio.gather(*found.tasks, return_exceptions=True)


async def test_a_paid_purchase_without_a_webhook_is_credited_once(market: Market) -> None:
    bought = await market.workers.buy(M1, 1, paid=False)
    market.platform.charges[charge(1)] = says(1, "ACTIVE")
    market.at(6)

    assert await market.scan() == [charge(1)]

    assert await market.status(bought) == "completed"
    assert market.credited() == 1
    await market.workers.do(UpdateCharge(M1, charge(1), "ACTIVE", "the webhook, after all"))
    market.at(20)
    assert await market.scan() == []
    assert market.credited() == 1


async def test_the_record_is_that_of_the_webhook(market: Market) -> None:
    bought = await market.workers.buy(M1, 1, paid=False)
    market.platform.charges[charge(1)] = says(1, "ACTIVE")
    market.at(6)
    for one in market.reconcilers:
        await one.scan()
        await one.idle()

    (record,) = market.workers.owner(M1).ingress.taken()

    assert record.topic == PURCHASE_UPDATED
    assert record.key == M1
    assert record.data == {"merchant_id": M1, "charge_id": charge(1), "status": "ACTIVE"}
    assert (record.platform, record.delivery_id) == ("shopify", "reconcile")
    assert record.correlation_id == f"reconcile/{bought}"


async def test_only_the_owner_of_its_partition_looks_a_purchase_up(market: Market) -> None:
    await market.workers.buy(M1, 1, paid=False)
    market.platform.charges[charge(1)] = FoundCharge()
    market.at(6)
    owner = market.workers.nodes.index(market.workers.owner(M1))

    await market.reconcilers[1 - owner].scan()
    await market.reconcilers[1 - owner].idle()
    assert market.platform.looked_up == []
    assert await market.scan() == [charge(1)]


@pytest.mark.parametrize("status", ["DECLINED", "EXPIRED", "CANCELLED", "FROZEN"])
async def test_a_purchase_that_failed_at_its_platform_fails(market: Market, status: str) -> None:
    bought = await market.workers.buy(M1, 1, paid=False)
    market.platform.charges[charge(1)] = says(1, status)
    market.at(6)

    await market.scan()

    assert await market.status(bought) == "failed"
    assert market.credited() == 0


@pytest.mark.parametrize("status", ["PENDING", "SOMETHING_NEW"])
async def test_a_charge_without_a_final_status_changes_nothing(market: Market, status: str) -> None:
    bought = await market.workers.buy(M1, 1, paid=False)
    market.platform.charges[charge(1)] = says(1, status)
    market.at(6)

    assert await market.scan() == [charge(1)]

    assert await market.status(bought) == "pending"
    assert all(not node.ingress.records for node in market.workers.nodes)


@pytest.mark.parametrize("seed", range(3))
async def test_an_hour_without_webhooks_delays_no_credits_by_over_ten_minutes(
    market: Market, seed: int
) -> None:
    chance = random.Random(seed)
    opened = sorted(chance.uniform(0, 60) for _ in range(40))
    paid = {n: at + chance.uniform(0.1, 60) for n, at in enumerate(opened) if chance.random() < 0.8}
    ids: dict[int, str] = {}
    credited: dict[int, float] = {}

    for tick in range(4 * 135):
        now = tick / 4
        market.at(now)
        for number in range(len(ids), sum(at <= now for at in opened)):
            ids[number] = await market.workers.buy(M1, number, paid=False)
            market.platform.charges[charge(number)] = FoundCharge()
        for number, at in paid.items():
            if at <= now:
                market.platform.charges[charge(number)] = says(number, "ACTIVE")
        await market.scan()
        told = {event["purchase_id"] for event in market.workers.events("credits.purchased")}
        credited |= {n: now for n, found in ids.items() if found in told and n not in credited}

    assert credited.keys() == paid.keys()
    assert max(credited[number] - at for number, at in paid.items()) <= 10
    assert market.credited() == len(paid)


async def test_a_new_owner_continues_with_the_look_ups(market: Market) -> None:
    bought = await market.workers.buy(M1, 1, paid=False)
    market.platform.charges[charge(1)] = FoundCharge()
    market.at(6)
    assert await market.scan() == [charge(1)]
    old, new = market.workers.owner(M1), market.workers.other(M1)
    await old.own([])
    await new.own([0, 1, 2, 3])
    market.workers.assign({market.workers.nodes.index(new): [0, 1, 2, 3]})
    market.platform.charges[charge(1)] = says(1, "ACTIVE")
    market.at(11)

    assert await market.scan() == [charge(1)]

    assert await market.status(bought) == "completed"


async def test_look_ups_follow_the_age_of_the_purchase(market: Market) -> None:
    await market.workers.buy(M1, 1, paid=False)
    market.platform.charges[charge(1)] = FoundCharge()
    seen = []

    for minute in range(26 * 60):
        market.at(minute + 0.5)
        if await market.scan():
            seen.append(minute)

    first = [5 * n for n in range(1, 25)]
    hourly = [60 * hours for hours in range(3, 24)]
    assert seen == [*first, *hourly, 24 * 60 - 1, 24 * 60 + 5]


async def test_a_payment_just_before_the_expiry_is_credited_without_expiring(
    market: Market,
) -> None:
    bought = await market.workers.buy(M1, 1, paid=False)
    market.platform.charges[charge(1)] = says(1, "ACTIVE")
    market.at(24 * 60 - 0.9)

    assert await market.scan() == [charge(1)]

    assert await market.status(bought) == "completed"
    assert market.workers.events("purchase.expired") == []


async def test_a_payment_in_the_last_minute_is_credited_after_the_expiry(
    market: Market,
) -> None:
    bought = await market.workers.buy(M1, 1, paid=False)
    market.platform.charges[charge(1)] = FoundCharge()
    market.at(24 * 60 - 0.9)
    await market.scan()
    market.at(24 * 60 + 1)
    partition = partition_of(M1, PARTITIONS)
    market.workers.owner(M1).lanes[partition].wake_if_due()
    await wait_for(market, bought, "expired")
    market.platform.charges[charge(1)] = says(1, "ACTIVE")
    market.at(24 * 60 + 5.5)

    assert await market.scan() == [charge(1)]

    assert await market.status(bought) == "completed"
    assert market.credited() == 1


async def wait_for(market: Market, purchase_id: str, status: str) -> None:
    """Until the lane has done what fell due."""
    for _ in range(1_000):
        if await market.status(purchase_id) == status:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not {status} in time")


@pytest.mark.parametrize(
    ("error", "minutes"),
    [(TryLater("busy", 900.0), 15), (TryLater("busy", 2.0), 0), (TemporaryFailure("away"), 1)],
)
async def test_a_platform_that_asks_to_wait_is_left_alone_for_so_long(
    market: Market, error: Exception, minutes: int
) -> None:
    for number in (1, 2, 3):
        await market.workers.buy(M1, number, paid=False)
        market.platform.charges[charge(number)] = error
    market.at(6)

    assert len(await market.scan()) == 1
    market.at(5 + 5 + 0.5)
    later = len(await market.scan())

    assert later == (0 if minutes > 5 else 1)
    assert market.metric("billing_lookups_skipped_total", platform="shopify") >= 2


async def test_a_refused_look_up_stops_no_other(market: Market) -> None:
    first = await market.workers.buy(M1, 1, paid=False)
    second = await market.workers.buy(M1, 2, paid=False)
    market.platform.charges |= {charge(1): PlatformError("odd"), charge(2): says(2, "ACTIVE")}
    market.at(6)

    await market.scan()

    assert await market.status(first) == "pending"
    assert await market.status(second) == "completed"


async def test_an_answer_about_another_charge_or_merchant_counts_for_nothing(
    market: Market,
) -> None:
    bought = await market.workers.buy(M1, 1, paid=False)
    theirs = says(1, "ACTIVE").event
    assert theirs is not None
    answers: list[Any] = [
        says(2, "ACTIVE"),
        FoundCharge(
            event=PlatformEvent(
                kind=theirs.kind, charge_id=theirs.charge_id, status="active", merchant_id=M2
            )
        ),
    ]
    for number, answer in enumerate(answers, 1):
        market.platform.charges[charge(1)] = answer
        market.at(6 * number)

        assert await market.scan() == [charge(1)]
        assert await market.status(bought) == "pending"


async def test_paid_and_not_credited_is_counted_until_it_is(market: Market) -> None:
    await market.workers.buy(M1, 1, paid=False)
    market.platform.charges[charge(1)] = says(1, "ACTIVE")
    market.at(6)
    for one in market.reconcilers:
        await one.scan()
        await one.idle()
    assert market.metric("billing_paid_not_credited") == 1

    # Still not decided at the next look-up: the same is not written twice.
    market.at(11)
    for one in market.reconcilers:
        await one.scan()
        await one.idle()
    assert len(market.workers.owner(M1).ingress.records) == 1

    await market.take()
    assert market.metric("billing_paid_not_credited") == 0
    assert market.metric("billing_lookups_reported_total", platform="shopify", outcome="paid") == 1


async def test_without_kafka_the_next_look_up_writes_the_record(market: Market) -> None:
    bought = await market.workers.buy(M1, 1, paid=False)
    market.platform.charges[charge(1)] = says(1, "ACTIVE")
    market.workers.owner(M1).ingress.up = False
    market.at(6)
    await market.scan()
    assert await market.status(bought) == "pending"

    market.workers.owner(M1).ingress.up = True
    market.at(11)
    await market.scan()

    assert await market.status(bought) == "completed"
