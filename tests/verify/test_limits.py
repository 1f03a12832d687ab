"""A log that was written under other limits than those that are set now is a right one."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from billing_stream.audit.verify.verify_report import Report
from billing_stream.domain.commands import CreateMerchant, ReservePurchase
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import ErrorCode, Rejected
from billing_stream.domain.policy import Policy
from billing_stream.records import topics as names
from tests.replaying.log import replayed, text
from tests.verify.world import EXPIRY, POLICY, World, merchant_id

M = merchant_id(1)
OTHER = merchant_id(2)
LIMITS = {"open_purchases_max": 2, "parked_max": 2, "answers_max": 2, "expired_per_step": 3}
LIMITED = replace(POLICY, **LIMITS)
NOW_SET = (
    pytest.param(POLICY, id="the defaults"),
    pytest.param(LIMITED, id="the same limits"),
    pytest.param(replace(POLICY, open_purchases_max=1), id="a lower limit"),
)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = await World(LIMITED).restart()
    yield found
    await found.stop()


async def settled(world: World) -> Report:
    """Have everything happen, and verify it under the limits that are set by default."""
    await world.feed_all()
    return await world.copy().verify()


def reserve(world: World, count: int, **fields: str) -> None:
    for _ in range(count):
        world.command(M, "reserve_purchase", pack="small", platform="shopify", **fields)


async def write(world: World) -> None:
    """A log in which each limit refuses something, by topic and over HTTP."""
    await world.ask(CreateMerchant(M, "shopify", "m.example", "create"))
    reserve(world, 4)
    for number in range(4):
        update = {"merchant_id": M, "charge_id": f"c{number}", "status": "active"}
        world.send(names.PURCHASE_UPDATED, update)
    await world.feed_all()
    world.pass_time(hours=1)
    refused = await world.ask(ReservePurchase(M, "small", Platform.SHOPIFY, command_id="http/1"))
    assert isinstance(refused, Rejected)
    assert refused.code is ErrorCode.TOO_MANY_OPEN_PURCHASES
    world.pass_time(seconds=EXPIRY.total_seconds())
    # The first of these lets the others expire, and the last is refused.
    for number in range(3):
        await world.ask(
            ReservePurchase(M, "small", Platform.SHOPIFY, command_id=f"http/later/{number}")
        )


@pytest.mark.parametrize("policy", NOW_SET)
async def test_refusals_under_another_limit_are_no_faults(world: World, policy: Policy) -> None:
    await write(world)

    report = await settled(world)
    again = await replayed(world.copy(), replace(policy, parked_max=2))

    letters = [letter.data["reason"] for letter in world.copy().of("x." + names.DEAD_LETTERS)]
    assert sum(reason.startswith("TOO_MANY_OPEN_PURCHASES: ") for reason in letters) == 2
    assert sum(reason.endswith("(TOO_MANY_EARLY_WEBHOOKS)") for reason in letters) == 2
    assert report.ok, list(report.lines())
    assert not again.differences, text(again)


async def test_a_log_from_before_the_limit_is_right() -> None:
    world = await World(replace(POLICY, open_purchases_max=1_000)).restart()
    await world.ask(CreateMerchant(M, "shopify", "m.example", "create"))
    reserve(world, 60)
    report = await settled(world)
    again = await replayed(world.copy())
    await world.stop()

    assert report.ok, list(report.lines())
    assert not again.differences, text(again)


async def test_idempotency_keys_refused_under_another_limit_are_no_fault(world: World) -> None:
    await world.ask(CreateMerchant(M, "shopify", "m.example", "create"))
    for number in range(3):
        world.command(M, "start_trial", idempotency_key=f"k{number}")

    report = await settled(world)

    assert report.ok, list(report.lines())


async def test_overdue_purchases_that_expire_in_steps_are_verified_and_replayed() -> None:
    world = await World(replace(LIMITED, open_purchases_max=1_000)).restart()
    for merchant in (M, OTHER):
        await world.ask(CreateMerchant(merchant, "shopify", f"{merchant}.example", merchant))
    reserve(world, 20)
    await world.feed_all()
    world.pass_time(hours=3)
    await world.tick()
    copy = world.copy()
    report = await copy.verify()
    again = await replayed(copy)
    await world.stop()

    journal = [entry.data["command"] for entry in copy.entries()]
    assert [entry.get("most") for entry in journal if entry["command"] == "pass_time"] == [
        *[3] * 6,
        None,
    ]
    assert report.ok, list(report.lines())
    assert not again.differences, text(again)


async def test_a_refusal_without_any_open_purchase_is_a_fault(world: World) -> None:
    await write(world)
    world.pass_time(seconds=2 * EXPIRY.total_seconds())
    await world.tick()
    reserve(world, 3)
    await world.feed_all()
    copy = world.copy()
    assert (await copy.verify()).ok
    # As if the two before had been refused, too, and nothing had come of them.
    letter = copy.of("x." + names.DEAD_LETTERS)[-1]
    for entry in copy.of("x." + names.COMMANDS)[-3:-1]:
        copy.add(letter, value=letter.value)
        copy.of("x." + names.DEAD_LETTERS)[-1].put({**letter.data, "offset": entry.offset})

    assert not (await copy.verify()).ok
