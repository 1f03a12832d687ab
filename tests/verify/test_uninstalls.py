"""Uninstalls in a log: verify and replay follow them, and name what is wrong."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from billing_stream.domain.commands import StartTrial, UninstallMerchant
from billing_stream.records import topics as names
from tests.replaying.log import replayed
from tests.verify.traffic import open_purchase, paid
from tests.verify.world import POLICY, Copy, World, merchant_id

ONE, TWO = merchant_id(1), merchant_id(2)
SHOP = "one.example"


async def uninstalled() -> World:
    """A shop that uninstalls twice, returns, is had by another merchant, and is erased."""
    world = await World().restart()

    def install(merchant: str, **after: float) -> None:
        at = (world.now + timedelta(**after)).isoformat()
        shop = {"merchant_id": merchant, "platform_name": "shopify", "domain": SHOP}
        world.send(names.MERCHANT_CREATED, {**shop, "installed_at": at})

    def report(command: str, **after: float) -> None:
        at = (world.now + timedelta(**after)).isoformat()
        world.command(ONE, command, shop=f"shopify:{SHOP}", triggered_at=at)

    install(ONE)
    await world.feed_all()
    await world.ask(StartTrial(ONE, "key", "trial"))
    await open_purchase(world, ONE, "c1")
    await open_purchase(world, ONE, "c2")
    world.pass_time(hours=1)
    report("uninstall_merchant", minutes=-30)
    report("uninstall_merchant", minutes=-30)
    # About an installation before it, and about none.
    report("uninstall_merchant", days=-9)
    world.command(ONE, "uninstall_merchant", shop="shopify:another.example")
    world.command(ONE, "reserve_purchase", pack="small", platform="shopify")
    await world.feed_all()
    world.send(names.PURCHASE_UPDATED, paid(ONE, "c2"))
    install(ONE, minutes=-45)
    await world.feed_all()
    world.pass_time(hours=1)
    install(ONE)
    await world.feed_all()
    await open_purchase(world, ONE, "c3")
    report("uninstall_merchant", minutes=-30)
    await world.feed_all()
    world.pass_time(hours=1)
    await world.ask(UninstallMerchant(ONE, "uninstall"), "cli")
    install(TWO)
    await world.feed_all()
    report("forget_merchant", days=2)
    await world.feed_all()
    return world


async def test_a_log_with_uninstalls_has_no_fault_and_is_replayed() -> None:
    copy = (await uninstalled()).copy()

    assert len(copy.events("merchant.uninstalled")) == 2
    reasons = [event.data["data"]["reason"] for event in copy.events("purchase.expired")]
    assert reasons == ["uninstalled"] * 3
    report = await copy.verify()
    assert report.ok, "\n".join(report.lines())
    assert (await replayed(copy, POLICY)).differences == []


def dropped(copy: Copy) -> None:
    copy.drop(copy.events("merchant.uninstalled")[-1])


def published_again(copy: Copy) -> None:
    copy.add(copy.events("merchant.uninstalled")[-1])


def expired_by_time(copy: Copy) -> None:
    event = copy.events("purchase.expired")[0]
    data = event.data["data"] | {"reason": "not paid in time"}
    event.value = json.dumps({**event.data, "data": data}).encode()


def row_without_it(copy: Copy) -> None:
    row = [row for row in copy.rows(names.BILLING_RECORDS) if row.key == ONE.encode()][-1]
    row.put({name: value for name, value in row.data.items() if name != "uninstalled_at"})


def still_open(copy: Copy) -> None:
    row = [row for row in copy.rows(names.CREDIT_PURCHASES) if row.data["status"] == "expired"][-1]
    row.put({**row.data, "status": "pending"})


@pytest.mark.parametrize(
    ("seed", "named"),
    [
        (dropped, {"sequences", "order"}),
        (published_again, {"sequences"}),
        (expired_by_time, {"order"}),
        (row_without_it, {"tables"}),
        (still_open, {"tables"}),
    ],
)
async def test_a_fault_of_an_uninstall_is_named(
    seed: Callable[[Copy], None], named: set[str]
) -> None:
    copy = (await uninstalled()).copy()

    seed(copy)

    assert named <= (await copy.verify()).faults()
