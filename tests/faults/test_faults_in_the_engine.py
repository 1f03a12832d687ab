"""Faults of the old service that were about how records are processed."""

import asyncio
from datetime import timedelta

from billing_stream.records import topics as names
from tests.support.partition import Partition, record
from tests.support.world import M1


async def test_5_a_webhook_that_cannot_be_processed_is_kept_and_not_swallowed() -> None:
    partition = await Partition().restart()

    await partition.feed(record(names.PURCHASE_UPDATED, 0, {"charge_id": "c"}, key=b"k"))

    (letter,) = partition.dead_letters()
    assert (letter["topic"], letter["offset"]) == (names.PURCHASE_UPDATED, 0)
    assert "merchant_id" in letter["reason"]
    assert partition.lane.positions[names.PURCHASE_UPDATED] == 1


async def test_11_expiry_happens_by_itself_for_trials_and_for_purchases() -> None:
    partition = await Partition().restart()
    created = {"merchant_id": M1, "platform_name": "shopify", "domain": "a.example"}
    await partition.feed(record(names.MERCHANT_CREATED, 0, created))
    reserve = {
        "command": "reserve_purchase",
        "merchant_id": M1,
        "pack": "small",
        "platform": "shopify",
    }
    await partition.feed(
        record(names.COMMANDS, 0, {"command": "start_trial", "merchant_id": M1}),
        record(names.COMMANDS, 1, reserve),
    )

    for days in (1, 14):
        partition.now += timedelta(days=days)
        partition.lane.wake_if_due()
        await asyncio.sleep(0.01)

    assert len(partition.events("purchase.expired")) == 1
    assert len(partition.events("trial.expired")) == 1
