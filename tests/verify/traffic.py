"""Every kind of traffic, in one small log that has something for each fault to be seeded in."""

from datetime import timedelta

from billing_stream.domain.commands import (
    AdjustCredits,
    AdvanceClock,
    AttachCharge,
    FailPurchase,
    ForgetMerchant,
    ReservePurchase,
    StartTrial,
    UpdateCharge,
)
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import PurchaseOpened
from billing_stream.domain.policy import PACKS
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from tests.verify.redriven import redriven_traffic
from tests.verify.world import PARTITIONS, World, merchant_id

PAGE = "https://pay.example/1"


async def open_purchase(world: World, merchant: str, charge: str, pack: str = "small") -> str:
    """A purchase with its charge, opened over HTTP."""
    number = world.count
    asked = ReservePurchase(merchant, pack, Platform.SHOPIFY, "/", None, f"req-{number}")
    opened = await world.ask(asked)
    assert isinstance(opened, PurchaseOpened)
    await world.ask(AttachCharge(merchant, opened.purchase_id, charge, PAGE, f"att-{number}"))
    return opened.purchase_id


def paid(merchant: str, charge: str, status: str = "ACTIVE") -> dict[str, str]:
    """A webhook."""
    return {"merchant_id": merchant, "charge_id": charge, "status": status}


async def rich_world() -> World:
    """Merchants with trials, purchases of every fate, bad and misplaced records, timers."""
    world = await World().restart()
    merchants = [merchant_id(number) for number in range(8)]
    for number, merchant in enumerate(merchants):
        created = {"merchant_id": merchant, "platform_name": "shopify", "domain": f"s{number}.x"}
        world.send(names.MERCHANT_CREATED, created, wrong=number == 3)
    await world.feed_all()
    for number, merchant in enumerate(merchants):
        world.pass_time(seconds=1)
        if number % 2:
            await world.ask(StartTrial(merchant, f"key-{number}", f"trial-{number}"))
        else:
            world.command(merchant, "start_trial")
            world.command(merchant, "start_trial")
        for count, pack in enumerate(("small", "medium", "large", "small")):
            await _purchase(world, merchant, f"c{number}-{count}", pack, count)
    await _odd_ones(world, merchants)
    await world.feed_all()
    world.pass_time(hours=3)
    await world.tick()
    world.send(names.PURCHASE_UPDATED, paid(merchants[0], "c0-2"))
    await world.feed_all()
    world.pass_time(hours=3)
    await world.tick()
    await world.feed_all()
    await _operators(world)
    set_catalogue(world)
    await world.feed_all()
    await redriven_traffic(world)
    return world


def set_catalogue(world: World) -> None:
    """An operator sets the packs that are in force: all that is sold from here on names them."""
    packs = {
        name: {"credits": pack.credits, "price": dict(pack.prices)} for name, pack in PACKS.items()
    }
    asked = {"command": "set_catalogue", "packs": packs, "by": "ann@host", "reason": "kept"}
    first = next(m for m in map(merchant_id, range(9)) if partition_of(m, PARTITIONS) == 0)
    world.send(names.OPERATOR_COMMANDS, asked, merchant=first)


async def _operators(world: World) -> None:
    """Adjustments, a moved clock, and merchants that are forgotten, one of whom comes back."""
    gone, back, moved, given = (merchant_id(number) for number in range(50, 54))
    created = {"platform_name": "shopify", "domain": "old.example"}
    for merchant in (gone, back, moved, given):
        for domain in ("old", "new"):
            shop = {"merchant_id": merchant, "domain": f"{domain}.{merchant[9:13]}.example"}
            world.send(names.MERCHANT_CREATED, {**created, **shop})
        await world.feed_all()
        await world.ask(StartTrial(merchant, "key", f"trial-{merchant}"))
        await open_purchase(world, merchant, f"c-{merchant}")
    for merchant in (gone, back, given):
        world.command(
            merchant, "adjust_credits", credits=30, reason="A gift", idempotency_key="gift"
        )
        world.command(
            merchant, "adjust_credits", credits=-31, reason="Too much", idempotency_key="more"
        )
        await world.feed_all()
        taken = AdjustCredits(merchant, -5, "A mistake", "mistake", f"adjust-{merchant}")
        for _ in range(2):
            await world.ask(taken, "operator:olga")
    await world.ask(AdvanceClock(moved, world.now + timedelta(days=30), "clock"), "operator:olga")
    world.command(gone, "forget_merchant")
    await world.ask(ForgetMerchant(back, "forget"), "cli")
    await world.feed_all()
    world.send(names.PURCHASE_UPDATED, paid(gone, f"c-{gone}"))
    world.send(names.MERCHANT_CREATED, {**created, "merchant_id": back})
    await world.feed_all()


async def _purchase(world: World, merchant: str, charge: str, pack: str, fate: int) -> None:
    """Paid; paid and paid back in part, then all; left alone; declined."""
    if fate % 2:
        world.send(names.PURCHASE_UPDATED, paid(merchant, charge))
        await world.feed_all()
    await open_purchase(world, merchant, charge, pack)
    webhook = paid(merchant, charge, ("ACTIVE", "accepted", "PENDING", "declined")[fate])
    world.send(names.PURCHASE_UPDATED, {"event_id": "e", "data": webhook}, wrong=fate == 0)
    if fate == 1:
        refund = {"merchant_id": merchant, "charge_id": charge}
        world.send(names.PURCHASE_REFUNDED, {**refund, "amount": 10})
        world.send(names.PURCHASE_REFUNDED, {**refund, "amount": "10.0"})
        world.send(names.PURCHASE_REFUNDED, refund)
    await world.feed_all()


async def _odd_ones(world: World, merchants: list[str]) -> None:
    one, two, three = merchants[:3]
    world.send(names.PURCHASE_UPDATED, b"\xff no json", merchant=one)
    world.send(names.MERCHANT_CREATED, {"merchant_id": "no uuid"}, merchant=two)
    world.send(names.COMMANDS, None, merchant=two)
    world.send(names.PURCHASE_UPDATED, paid(two, "never-claimed"))
    world.send(names.PURCHASE_UPDATED, paid(merchant_id(99), "never-heard-of"))
    world.command(merchant_id(98), "start_trial")
    world.command(three, "reserve_purchase", pack="huge", platform="shopify")
    reserved = world.command(three, "reserve_purchase", pack="small", platform="shopify")
    world.command(three, "attach_charge", purchase_id=one, charge_id="x", checkout_url=PAGE)
    moved = {"merchant_id": three, "platform_name": "Shopify", "domain": "Moved.example"}
    world.send(names.MERCHANT_CREATED, moved)
    await world.feed_all()
    opened = await world.ask(ReservePurchase(one, "small", Platform.CUSTOM, "/", "k", "req-x"))
    assert isinstance(opened, PurchaseOpened)
    await world.ask(FailPurchase(one, opened.purchase_id, "Down", "fail-x"))
    await world.ask(UpdateCharge(two, "by-hand", "active", "by-hand"), "cli")
    assert reserved
