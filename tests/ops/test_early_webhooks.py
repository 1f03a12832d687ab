"""A webhook that waits for its charge is visible until it is applied, or a dead letter."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest_asyncio

from billing_stream.domain.commands import AdvanceTime, AttachCharge, ReservePurchase
from billing_stream.domain.model import Platform
from billing_stream.engine.partitioner import partition_of
from billing_stream.engine.watchdog import Watchdog
from billing_stream.observability.metrics.worker_state import WorkerState
from billing_stream.records import topics as names
from billing_stream.web.ops.cookies import CookiePolicy
from billing_stream.web.ops.figures import not_sampled
from billing_stream.web.ops.session import begin
from tests.support.nodes import PARTITIONS, Cluster, cluster, get
from tests.support.partition import Record
from tests.support.tokens import operator_token
from tests.support.worker import INTERNAL_SECRET

M1 = "11111111-1111-4111-8111-111111111111"
HOME = partition_of(M1, PARTITIONS)
COUNT, AGE = "billing_early_webhooks", "billing_early_webhooks_oldest_seconds"
NONE = 'id="early">none<'


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers; an early webhook waits for an hour."""
    settings = {"BILLING_EARLY_WEBHOOK_EXPIRY": "1h"}
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}, **settings) as found:
        await found.create(M1, "one.example")
        yield found


async def paid(two: Cluster, charge: str, offset: int = 0) -> datetime:
    """Have the webhook come; when it came."""
    value = json.dumps({"merchant_id": M1, "charge_id": charge, "status": "active"}).encode()
    now = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    record = Record(
        names.PURCHASE_UPDATED, offset, value, timestamp=int(now.timestamp() * 1000), partition=HOME
    )
    await two.put(HOME, record.topic, [record], offset)
    return now


async def page(two: Cluster, path: str, node: int = 0) -> str:
    """A page of the dashboard, as an operator sees it."""
    cookie, *_ = begin(operator_token("olga"), INTERNAL_SECRET)
    sent = {"Cookie": f"{CookiePolicy(is_real=False).name}={cookie}"}
    reply = await get(two.nodes[node].url, path, sent)
    assert reply.status == 200
    return reply.raw.decode()


def measured(two: Cluster, name: str) -> float:
    """The gauge, of the partition of the merchant."""
    watchdog = Watchdog(two.owner(M1).lanes, die=lambda *_: None)
    state = WorkerState(watchdog, partitions=PARTITIONS, ask_lags=not_sampled)
    for family in state.collect():
        for sample in family.samples:
            if sample.name == name and sample.labels == {"partition": str(HOME)}:
                return sample.value
    raise AssertionError(f"no {name}")


async def test_early_webhook_is_counted_with_its_age(two: Cluster) -> None:
    assert (measured(two, COUNT), measured(two, AGE)) == (0, 0)
    came = await paid(two, "c-1")
    await paid(two, "c-2", 1)

    two.owner(M1).now = came + timedelta(minutes=20)

    assert (measured(two, COUNT), measured(two, AGE)) == (2, 1200)


async def test_early_webhook_is_on_both_pages_of_any_worker(two: Cluster) -> None:
    came = await paid(two, "c-1")

    for node in (0, 1):
        since = f"1, the oldest since {came:%Y-%m-%d %H:%M:%S}"
        assert f'id="early">{since}' in await page(two, f"/ops/merchants/{M1}", node)
        assert f'id="early">{since}' in await page(two, "/ops", node)


async def test_webhook_that_found_its_charge_waits_no_longer(two: Cluster) -> None:
    await paid(two, "c-1")
    opened = await two.ask(ReservePurchase(M1, "small", Platform.SHOPIFY, command_id="r-1"))
    await two.ask(AttachCharge(M1, opened.purchase_id, "c-1", "https://pay.example/1"))

    assert (measured(two, COUNT), measured(two, AGE)) == (0, 0)
    assert NONE in await page(two, f"/ops/merchants/{M1}")
    assert NONE in await page(two, "/ops")
    assert len(two.events("credits.purchased")) == 1


async def test_webhook_without_a_charge_is_a_dead_letter_in_time(two: Cluster) -> None:
    came = await paid(two, "c-1")
    owner = two.owner(M1)
    owner.now = came + timedelta(minutes=59)
    await two.ask(AdvanceTime(M1))
    assert measured(two, COUNT) == 1

    owner.now = came + timedelta(minutes=61)
    await two.ask(AdvanceTime(M1))

    assert measured(two, COUNT) == 0
    (letter,) = (json.loads(one.value or b"") for one in two.log.read(names.DEAD_LETTERS))
    assert letter["reason"] == "no purchase claimed the charge 'c-1' in time"
    assert (letter["topic"], letter["offset"]) == (names.PURCHASE_UPDATED, 0)
