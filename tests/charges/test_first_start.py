"""Charges of rows that were written before charges were registered: each once, at a first start."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from billing_stream.domain.model import Merchant, Platform, Purchase, PurchaseStatus
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.observability.metrics.transaction_metrics import KINDS
from billing_stream.records import topics as names
from billing_stream.records.schemas import encode
from billing_stream.tables.charges import FILLED_PER_COMMIT_MAX
from tests.support.memory_log import Crash
from tests.support.partition import START, TOPICS, Partition, record

M1 = "11111111-1111-4111-8111-111111111111"
STATE_OF_0_6_BETA = (("state", b"3"),)


def purchase_id(number: int) -> str:
    return f"{number:08d}-2222-4222-8222-222222222222"


def with_old_rows(count: int) -> Partition:
    """A partition with the rows of a release that registered no charges."""
    partition = Partition()
    rows: list[tuple[str, str, Any]] = [
        (
            names.BILLING_RECORDS,
            M1,
            Merchant(merchant_id=M1, created_at=START, updated_at=START, version=1),
        )
    ]
    for number in range(count):
        bought = Purchase(
            id=purchase_id(number),
            merchant_id=M1,
            credits=100,
            amount="9.99",
            status=PurchaseStatus.PENDING,
            platform=Platform.SHOPIFY,
            created_at=START,
            expires_at=START + timedelta(days=1),
            # One in ten has none.
            platform_charge_id=f"c-{number}" if number % 10 else None,
            version=1,
            currency="USD",
        )
        rows.append((names.CREDIT_PURCHASES, bought.id, bought))
    for table, key, row in rows:
        topic = TOPICS.changelog(table)
        outgoing = Outgoing(topic, key.encode(), encode(row), STATE_OF_0_6_BETA)
        partition.log.append(topic, 0, outgoing)
    return partition


async def settle(partition: Partition) -> None:
    """Let the lane do all that it does by itself."""
    for _ in range(1_000):
        partition.lane.wake_if_due()
        await asyncio.sleep(0)


def registered(partition: Partition) -> list[str]:
    """The purchases in registrations, in their order."""
    log = partition.log.read(names.CHARGES)
    return [json.loads(one.value or b"")["purchase_id"] for one in log]


def transactions(partition: Partition) -> int:
    return partition.lane.stats.transactions


async def tell(partition: Partition) -> None:
    """Deliver to the lane what stands on the topic of charges and was not read."""
    log = partition.log.topics.get((names.CHARGES, 0), [])
    begin = partition.lane.positions.get(names.CHARGES, 0)
    for offset in range(begin, len(log), 500):
        some = enumerate(log[offset : offset + 500], offset)
        await partition.feed(*(record(names.CHARGES, at, one.value) for at, one in some))


COUNT = 2 * FILLED_PER_COMMIT_MAX + 500
WANTED = [purchase_id(number) for number in range(COUNT) if number % 10]


async def test_first_start_registers_the_charges_of_old_rows() -> None:
    partition = await with_old_rows(COUNT).restart()

    await settle(partition)
    await tell(partition)

    assert registered(partition) == WANTED
    assert len(partition.processor.rows.charges) == len(WANTED)
    await partition.restart()
    await settle(partition)
    assert len(registered(partition)) == len(WANTED)


@pytest.mark.parametrize("after", [False, True])
async def test_first_start_that_is_killed_halfway_changes_nothing(after: bool) -> None:
    partition = await with_old_rows(COUNT).restart()
    partition.lane.wake_if_due()
    for _ in range(200):
        if transactions(partition) < 1:
            await asyncio.sleep(0)
    writer: Any = partition.writer
    writer.crash_after_commit, writer.crash_before_commit = after, not after
    await settle(partition)
    assert isinstance(partition.deaths.causes[0][1], Crash)
    before = len(registered(partition))
    assert 0 < before < len(WANTED)

    # After a death, `feed` waits for nothing.
    partition.deaths.causes.clear()
    await partition.restart()
    await settle(partition)
    await tell(partition)

    assert len(registered(partition)) == before + len(WANTED)
    charges = partition.processor.rows.charges
    assert {charge.purchase_id for charge in charges.values()} == set(WANTED)
    assert partition.dead_letters() == []


async def test_attaching_does_not_wait_for_the_first_start() -> None:
    partition = await with_old_rows(COUNT).restart()
    attach = {
        "command": "attach_charge",
        "merchant_id": M1,
        "purchase_id": purchase_id(0),
        "charge_id": "new",
        "checkout_url": "https://pay.example/1",
    }

    await partition.feed(record(names.COMMANDS, 0, attach))

    assert purchase_id(0) in registered(partition)
    assert transactions(partition) == 1
    await settle(partition)
    assert sorted(registered(partition)) == sorted([*WANTED, purchase_id(0)])


async def test_webhook_that_comes_before_the_first_start_is_done_waits() -> None:
    partition = await with_old_rows(COUNT).restart()
    webhook = {
        "record": "unrouted_webhook",
        "platform": "shopify",
        "charge_id": "c-1",
        "topic": names.PURCHASE_UPDATED,
        "payload": {"charge_id": "c-1", "status": "active"},
    }
    partition.log.append(
        names.CHARGES, 0, Outgoing(names.CHARGES, b"k", json.dumps(webhook).encode())
    )
    await tell(partition)
    assert len(partition.processor.rows.unclaimed) == 1

    await settle(partition)
    await tell(partition)

    assert partition.processor.rows.unclaimed == {}
    (routed,) = partition.log.read(names.COMMANDS)
    assert json.loads(routed.value or b"")["data"]["merchant_id"] == M1


def test_records_of_every_input_are_counted() -> None:
    assert set(KINDS) == set(names.INPUTS)
