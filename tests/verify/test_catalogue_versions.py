"""A log whose catalogue was set while it was written: right as it is, and each fault is named."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from billing_stream.domain.commands import CreateMerchant, ReservePurchase
from billing_stream.domain.model import Platform
from billing_stream.domain.policy import Pack
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from tests.replaying.log import of, replayed, text
from tests.verify.world import PARTITIONS, POLICY, TOPICS, Copy, World, merchant_id

MERCHANTS = [merchant_id(number) for number in range(1, 7)]
SUMMER = {"small": {"credits": 120, "price": {"USD": "9.99"}}}
AUTUMN = {"small": {"credits": 80, "price": {"USD": "8.50"}}, "medium": SUMMER["small"]}


def set_catalogue(world: World, packs: Any, **fields: Any) -> None:
    """An operator's command, on partition 0."""
    said = {"command": "set_catalogue", "packs": packs, "by": "ann@host", "reason": "prices"}
    merchant = next(m for m in MERCHANTS if partition_of(m, PARTITIONS) == 0)
    world.send(names.OPERATOR_COMMANDS, {**said, **fields}, merchant=merchant)


async def buy(world: World, pack: str = "small") -> None:
    """Each merchant opens a purchase by topic and one over HTTP, and pays the first."""
    world.count += 1
    for merchant in MERCHANTS:
        world.command(merchant, "reserve_purchase", pack=pack, platform="shopify")
        name = f"http/{merchant}/{world.count}"
        await world.ask(ReservePurchase(merchant, pack, Platform.SHOPIFY, command_id=name))


@pytest.fixture
async def log() -> AsyncIterator[Copy]:
    """Three versions, one of them scheduled; purchases before, between and after."""
    world = await World().restart()
    for merchant in MERCHANTS:
        await world.ask(CreateMerchant(merchant, "shopify", f"{merchant}.example", merchant))
    await buy(world)
    await world.feed_all()
    set_catalogue(world, SUMMER, idempotency_key="summer")
    set_catalogue(world, AUTUMN, effective_at=(world.now + timedelta(minutes=20)).isoformat())
    # Taken by the lane of partition 0 only; the others are told, and decide meanwhile.
    await world.feed((TOPICS.name(names.OPERATOR_COMMANDS), 0), 0, 2)
    await buy(world)
    await world.feed_all()
    set_catalogue(world, {})
    # As after an answer that was lost.
    set_catalogue(world, SUMMER, idempotency_key="summer")
    for _ in range(4):
        world.pass_time(minutes=10)
        await buy(world)
        await buy(world, "medium")
        await world.feed_all()
    for lane in world.lanes.values():
        for purchase in list(lane.processor.rows.purchases.values()):
            charge = {"merchant_id": purchase.merchant_id, "charge_id": purchase.id}
            attach = {"purchase_id": purchase.id, "checkout_url": "https://pay.example/"}
            world.send(names.COMMANDS, {"command": "attach_charge", **charge, **attach})
            world.send(names.PURCHASE_UPDATED, {**charge, "status": "ACTIVE"})
    await world.feed_all()
    yield world.copy()
    await world.stop()


async def test_a_log_with_versions_is_right(log: Copy) -> None:
    report = await log.verify()

    assert report.ok, "\n".join(report.lines())
    assert report.checks["catalogue"].counted == 2
    versions = {row.data.get("catalogue_version") for row in log.rows(names.CREDIT_PURCHASES)}
    assert versions == {None, 1, 2}


async def test_a_replay_decides_by_the_catalogue_of_the_time(log: Copy) -> None:
    report = await replayed(log)

    assert not report.differences, text(report)
    dearer = {**POLICY.packs, "small": Pack(7, {"USD": "1.00"})}
    others = await replayed(log, replace(POLICY, packs=dearer))
    changed = {d.recorded for d in of(others, "row differs", "credits")}
    assert changed == {100}


async def found(log: Copy) -> str:
    report = await log.verify()
    return "\n".join(report.lines())


async def test_a_purchase_under_a_version_not_in_force_is_a_fault(log: Copy) -> None:
    for row in log.rows(names.CREDIT_PURCHASES):
        if row.data.get("catalogue_version") == 2:
            row.put({**row.data, "catalogue_version": 1})
    assert "catalogue_version" in await found(log)


async def test_other_credits_than_those_of_the_version_are_a_fault(log: Copy) -> None:
    for version in log.of(TOPICS.name(names.CATALOGUE)):
        if version.data["version"] == 2:
            packs = {**version.data["packs"]}
            packs["small"] = {**packs["small"], "credits": 81}
            version.put({**version.data, "packs": packs})
    said = await found(log)
    assert "has other packs than" in said
    assert "credits" in said


async def test_a_version_that_nobody_asked_for_is_a_fault(log: Copy) -> None:
    (version, *_) = log.of(TOPICS.name(names.CATALOGUE))
    log.add(version)
    assert "version 1 is there twice" in await found(log)
    changed = version.data | {"version": 7, "command": "x.billing.operator-commands.v1[0]@99"}
    log.of(TOPICS.name(names.CATALOGUE))[-1].put(changed)
    said = await found(log)
    assert "version 7 is where version 3 is due" in said
    assert "did not ask for it" in said


async def test_a_version_that_is_missing_is_a_fault(log: Copy) -> None:
    log.drop(log.of(TOPICS.name(names.CATALOGUE))[-1])
    assert "asks for a version, and none was decided" in await found(log)


@pytest.mark.parametrize(
    ("number", "field", "value", "said"),
    [
        (1, "effective_at", "2030-01-01T00:00:00Z", "effective at another time than was asked for"),
        (1, "set_at", "2020-01-01T00:00:00Z", "or set at another time"),
        (2, "by", "eve@host", "was set by another one"),
        (2, "reason", "none", "or for another reason"),
        (2, "idempotency_key", "summer", "has the key of version 1"),
        (1, "idempotency_key", "autumn", "asks for a version, and none was decided"),
    ],
)
async def test_another_version_than_was_asked_for_is_a_fault(
    number: int, field: str, value: str, said: str, log: Copy
) -> None:
    for version in log.of(TOPICS.name(names.CATALOGUE)):
        if version.data["version"] == number:
            version.put({**version.data, field: value})
    assert said in await found(log)


async def test_another_title_than_was_asked_for_is_a_fault(log: Copy) -> None:
    (version, *_) = log.of(TOPICS.name(names.CATALOGUE))
    small = {**version.data["packs"]["small"], "title": "Cheap"}
    version.put({**version.data, "packs": {"small": small}})
    assert "has other packs than" in await found(log)


async def test_a_partition_that_did_not_get_a_version_is_a_fault(log: Copy) -> None:
    told = [one for one in log.of(TOPICS.name(names.OPERATOR_COMMANDS)) if one.partition == 1]
    log.drop(told[-1])
    assert "partition 1 did not get version 2" in await found(log)
