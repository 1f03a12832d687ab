"""Logs of releases that read no times and no ids of shops: they are right, and go on."""

import pytest
from msgspec.structs import replace

from billing_stream.engine import record_order
from billing_stream.records import topics as names
from tests.replaying.log import replayed
from tests.verify.world import POLICY, World, merchant_id

A, B = merchant_id(1), merchant_id(2)
T1, T2, T3 = (f"2025-12-0{day}T00:00:00Z" for day in (1, 2, 3))


def install(world: World, merchant: str, domain: str, at: str, shop_id: str) -> None:
    said = {"merchant_id": merchant, "platform_name": "shopify", "domain": f"{domain}.example"}
    installed = {"installed_at": at, "platform_shop_id": shop_id}
    world.send(names.MERCHANT_CREATED, {**said, **installed})


async def test_log_in_which_the_last_record_counted_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(replace(POLICY, rules=1))
    with monkeypatch.context() as old:
        old.setattr(record_order, "RULES", 1)
        await world.restart()
        install(world, A, "a", T2, "7")
        install(world, A, "b", T1, "7")
        install(world, B, "a", T1, "8")
        await world.feed_all()
        await world.stop()
    world.policy = POLICY
    await world.restart()
    # Published once more: what is known better moves no shop.
    install(world, B, "a", T3, "8")
    install(world, A, "b", T3, "7")
    await world.feed_all()
    install(world, A, "a", T1, "7")
    await world.feed_all()
    rows = {
        key: row for lane in world.lanes.values() for key, row in lane.processor.rows.shops.items()
    }
    copy = world.copy()
    report, again = await copy.verify(), await replayed(copy)
    await world.stop()

    owners = {key: row.merchant_id for key, row in rows.items()}
    assert owners == {"shopify:a.example": B, "shopify:b.example": A}
    assert report.faults() == set(), "\n".join(report.lines())
    assert not again.differences
