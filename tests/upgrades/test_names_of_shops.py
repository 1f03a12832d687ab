"""Logs whose shops were registered as they came: they are right, and what is new is read."""

import pytest
from msgspec.structs import replace

from billing_stream.engine import record_order
from billing_stream.records import topics as names
from tests.replaying.log import replayed
from tests.verify.world import POLICY, World, merchant_id

OLD, NAMELESS, NEW = map(merchant_id, range(3))


def created(merchant: str, domain: str, platform: str = "shopify") -> dict[str, str]:
    return {"merchant_id": merchant, "platform_name": platform, "domain": domain}


async def upgraded(patch: pytest.MonkeyPatch) -> World:
    """A log of a release that named shops as they came, taken over by this one."""
    world = World(replace(POLICY, rules=1))
    with patch.context() as old:
        old.setattr(record_order, "RULES", 1)
        await world.restart()
        world.send(names.MERCHANT_CREATED, created(OLD, "https://A.example/"))
        world.send(names.MERCHANT_CREATED, created(NAMELESS, "Shop 1", "Shopify Plus"))
        await world.feed_all()
        await world.stop()
    world.policy = POLICY
    return await world.restart()


async def test_log_with_shops_as_they_came_is_right_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await upgraded(monkeypatch)
    for merchant in (OLD, NEW):
        world.send(names.MERCHANT_CREATED, created(merchant, f"https://{merchant[:2]}.example/"))
    world.send(names.MERCHANT_CREATED, created(NAMELESS, "Shop 1", "Shopify Plus"))
    await world.feed_all()
    copy = world.copy()
    report, again = await copy.verify(), await replayed(copy)
    await world.stop()

    assert report.faults() == set(), "\n".join(report.lines())
    assert not again.differences
    assert len(again.by_older_rules) == 2
    assert "a shop was named as it came" in "\n".join(again.lines(3))
