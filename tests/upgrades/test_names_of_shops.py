"""Logs with shops that were registered as they came: all is right, and they are found."""

import pytest
from msgspec.structs import replace

from billing_stream.domain.commands import ForgetMerchant
from billing_stream.engine import record_order
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from tests.replaying.log import replayed
from tests.verify.world import PARTITIONS, POLICY, World, merchant_id

OLD, NAMELESS, NEW = map(merchant_id, range(3))


def created(merchant: str, domain: str, platform: str = "shopify") -> dict[str, str]:
    return {"merchant_id": merchant, "platform_name": platform, "domain": domain}


async def upgraded(patch: pytest.MonkeyPatch, *records: dict[str, str]) -> World:
    """A log of a release that named shops as they came, taken over by this one."""
    world = World(replace(POLICY, rules=1))
    with patch.context() as old:
        old.setattr(record_order, "RULES", 1)
        old.setattr("billing_stream.tables.charges.ChargeWork.step", lambda *_: False)
        await world.restart()
        for record in records:
            world.send(names.MERCHANT_CREATED, record)
        await world.feed_all()
        await world.stop()
    world.policy = POLICY
    await world.restart()
    await world.tick()
    await world.feed_all()
    return world


def owner(world: World, domain: str) -> str | None:
    shop = f"shopify:{domain}"
    lane = world.lanes[partition_of(shop, PARTITIONS)]
    known = lane.processor.rows.shops.get(shop)
    return None if known is None else known.merchant_id


async def require_right(world: World, by_older_rules: int) -> None:
    """The verifier finds no fault, the replay no difference."""
    copy = world.copy()
    report, again = await copy.verify(), await replayed(copy)
    assert report.faults() == set(), "\n".join(report.lines())
    assert not again.differences
    assert len(again.by_older_rules) == by_older_rules
    assert by_older_rules == 0 or "a shop was named as it came" in "\n".join(again.lines(3))


async def test_shop_of_an_old_log_is_found_by_its_name_of_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nameless = created(NAMELESS, "Shop 1", "Shopify Plus")
    world = await upgraded(monkeypatch, created(OLD, "https://A.example/"), nameless)

    assert owner(world, "a.example") == OLD
    await require_right(world, 2)
    for merchant in (OLD, NEW):
        world.send(names.MERCHANT_CREATED, created(merchant, f"https://{merchant[:2]}.example/"))
    world.send(names.MERCHANT_CREATED, created(OLD, "a.example"))
    world.send(names.MERCHANT_CREATED, nameless)
    await world.feed_all()
    await require_right(world, 2)
    await world.stop()


async def test_shop_of_an_old_log_is_not_taken_from_another_merchant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await upgraded(
        monkeypatch, created(OLD, "https://a.example/"), created(NEW, "a.example")
    )

    assert owner(world, "a.example") == NEW
    await require_right(world, 1)
    await world.stop()


async def test_forgotten_merchant_of_an_old_log_has_no_shop_by_any_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await upgraded(monkeypatch, created(OLD, "https://A.example/"))
    await world.ask(ForgetMerchant(OLD, "forget"), "cli")
    await world.feed_all()

    assert owner(world, "a.example") is owner(world, "https://a.example/") is None
    await require_right(world, 1)
    await world.stop()
