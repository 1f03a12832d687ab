"""Merchants brought in from another service, in a small log."""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from tests.verify.world import PARTITIONS, START, World, merchant_id

PAID, LATER, LIVING, TWICE = (merchant_id(number) for number in range(70, 74))
# What a partition's lane can refuse is what it has.
NEIGHBOUR = next(
    merchant
    for merchant in map(merchant_id, range(74, 99))
    if partition_of(merchant, PARTITIONS) == partition_of(PAID, PARTITIONS)
)


def purchase_id(merchant: str, number: int) -> str:
    """The id of a merchant's old purchase: no two merchants have the same."""
    return str(uuid.uuid5(uuid.UUID(merchant), str(number)))


def old(merchant: str, number: int, status: str = "completed", **fields: Any) -> dict[str, Any]:
    """A purchase of the old service; it could be paid until an hour after the start."""
    paid = {"completed_at": _text(START - timedelta(hours=1))} if status == "completed" else {}
    return {
        "id": purchase_id(merchant, number),
        "credits": 70 + number,
        "amount": f"{number + 1}.50",
        "status": status,
        "platform": "shopify",
        "platform_charge_id": f"old-{merchant}-{number}",
        "created_at": _text(START - timedelta(hours=1, minutes=number)),
        "expires_at": _text(START + timedelta(hours=1)),
        **paid,
        **fields,
    }


def used_trial(ends_at: datetime) -> dict[str, Any]:
    """A trial that was used there."""
    times = {"trial_started_at": ends_at - timedelta(hours=5), "trial_ends_at": ends_at}
    return {"trial_available": False, **{name: _text(time) for name, time in times.items()}}


def bring(world: World, merchant: str, *purchases: dict[str, Any], **fields: Any) -> str:
    """Send the command; its id."""
    created = {"created_at": "2020-02-02T02:02:02.5Z", **fields}
    return world.command(merchant, "import_merchant", purchases=list(purchases), **created)


async def imported_world() -> World:
    """Paid, pending, over, twice, in parts, beside what happens here, and refused."""
    world = await World().restart()
    webhooks = {merchant: f"old-{merchant}-1" for merchant in (PAID, LATER, LIVING, TWICE)}
    created = {"merchant_id": LIVING, "platform_name": "shopify", "domain": "living.example"}
    world.send(names.MERCHANT_CREATED, created)
    for merchant in (LATER, LIVING):
        webhook = {"merchant_id": merchant, "charge_id": webhooks[merchant], "status": "ACTIVE"}
        world.send(names.PURCHASE_UPDATED, webhook)
    await world.feed_all()
    shop = {"platform": "Shopify", "domain": "Paid.example"}
    bring(world, PAID, old(PAID, 0), old(PAID, 1), **used_trial(START), **shop)
    bring(world, PAID, old(PAID, 0), old(PAID, 2, "failed"), **used_trial(START), **shop)
    bring(world, LATER, old(LATER, 1, "pending"), **used_trial(START + timedelta(hours=1)))
    bring(world, LIVING, old(LIVING, 0), old(LIVING, 1), trial_available=False, **shop)
    bring(world, TWICE, old(TWICE, 0, "pending"), old(TWICE, 1, "pending"))
    bring(world, NEIGHBOUR, old(NEIGHBOUR, 1), old(PAID, 0))
    await world.feed_all()
    refund = {"merchant_id": PAID, "charge_id": webhooks[PAID], "amount": "1.25"}
    world.send(names.PURCHASE_REFUNDED, refund)
    world.command(PAID, "start_trial")
    await world.feed_all()
    world.pass_time(hours=2)
    await world.tick()
    # A purchase that is known keeps its amount.
    again = old(TWICE, 0, amount="3")
    bring(world, TWICE, again, old(TWICE, 1, "pending"), old(TWICE, 2, "pending"))
    await world.feed_all()
    return world


def any_import(one_of: Callable[..., Any], merchant: str) -> dict[str, Any]:
    """The fields of a command, drawn; now and then of one that makes no sense."""
    statuses = ("pending", "pending", "completed", "failed", "expired", "PENDING")
    purchases = []
    for number in range(one_of(0, 1, 1, 2, 3)):
        later = one_of(-30, 30, 90, 600)
        drawn = {
            "platform_charge_id": one_of("c1", "c2", "c3", None),
            "expires_at": _text(START + timedelta(minutes=later)),
            "completed_at": one_of(None, _text(START)),
            "amount": one_of("9.99", "1.5", "0.00", "7"),
        }
        purchases.append(old(merchant, one_of(number, 0, 1), one_of(*statuses), **drawn))
    fields: dict[str, Any] = {
        "created_at": one_of("2020-01-01T00:00:00Z", "2025-12-31T23:30:00+00:30"),
        "trial_available": one_of(True, False),
        "trial_ends_at": one_of(None, _text(START + timedelta(hours=one_of(-1, 1, 4)))),
        "last_purchase_at": one_of(None, _text(START), "2020-01-01 00:00:00"),
        "purchases": purchases,
    }
    if one_of(True, False):
        domain = one_of("imported.example", "Imported.example:443", "imported@example")
        fields |= {"platform": one_of("stripe", None), "domain": domain}
    return fields


def _text(moment: datetime) -> str:
    return moment.isoformat()
