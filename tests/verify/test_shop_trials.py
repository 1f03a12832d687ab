"""A shop has one trial: verify reads it by itself, and replay decides as it was decided."""

from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from billing_stream.domain.commands import CreateMerchant, ImportMerchant, StartTrial
from billing_stream.domain.policy import OncePer
from billing_stream.records import topics as names
from tests.replaying.log import replay_source
from tests.simulation.shop_trial_mutants import SHOP_TRIAL_MUTANTS
from tests.verify.world import PARTITIONS, POLICY, START, TOPICS, Copy, Stored, World, merchant_id

A, B, C, D, E, F = (merchant_id(number) for number in range(1, 7))
PER_SHOP = replace(POLICY, trial_once_per=OncePer.SHOP)
SHOPS = TOPICS.name(names.SHOPS)
ANSWER = "answer_trial_claim"


async def start(world: World, merchant: str, shop: str | None, key: str | None = None) -> None:
    """Have the merchant create its record and start its trial, however that ends."""
    created = CreateMerchant(merchant, "shopify", f"{merchant}.example", f"c/{merchant}", shop)
    await world.ask(created)
    for number in range(2):
        await world.ask(StartTrial(merchant, key, f"s/{merchant}/{number}"))
        await world.feed_all()


async def played() -> World:
    """Shops with two merchants each, under one setting, the other one, and the first again."""
    world = await World(PER_SHOP).restart()
    await start(world, A, "7")
    await start(world, B, "7", "k")
    # By records of another system.
    for merchant in (E, F):
        await world.ask(CreateMerchant(merchant, "shopify", f"{merchant}.example", merchant, "9"))
        world.command(merchant, "start_trial", idempotency_key="k")
    await world.feed_all()
    await world.stop()
    world.policy = POLICY
    await world.restart()
    await start(world, C, "8")
    await start(world, D, "8")
    await start(world, B, "7", "l")
    await world.stop()
    world.policy = PER_SHOP
    await world.restart()
    await world.ask(ImportMerchant(merchant_id=merchant_id(8), created_at=START))
    await start(world, merchant_id(9), "8")
    await start(world, merchant_id(10), None)
    # Its shop becomes known when its trial is used.
    moved = CreateMerchant(merchant_id(10), "shopify", "moved.example", "moved", "8")
    await world.ask(moved)
    await world.feed_all()
    return world


@pytest_asyncio.fixture
async def copy() -> Copy:
    world = await played()
    await world.stop()
    return world.copy()


def claims(copy: Copy, why: str = "asked") -> list[Stored]:
    said = [r for r in copy.of(SHOPS) if "data" in r.data]
    return [r for r in said if r.data["data"]["why"] == why]


def answers(copy: Copy, *, granted: bool) -> list[Stored]:
    found = [r for r in copy.of(TOPICS.name(names.COMMANDS)) if "data" in r.data]
    return [r for r in found if r.data["data"]["granted"] is granted]


def change(record: Stored, **fields: Any) -> None:
    record.put({**record.data, "data": {**record.data["data"], **fields}})


def mark(copy: Copy) -> Stored:
    rows = copy.of(TOPICS.changelog(names.BILLING_RECORDS))
    return next(r for r in rows if (r.key or b"").startswith(b"\0mark/trial/"))


def granted_to_both(copy: Copy) -> None:
    change(answers(copy, granted=False)[0], granted=True)


def refused_to_the_first(copy: Copy) -> None:
    change(answers(copy, granted=True)[0], granted=False)


def not_answered(copy: Copy) -> None:
    copy.drop(answers(copy, granted=False)[0])


def another_has_it(copy: Copy) -> None:
    mark(copy).value = merchant_id(77).encode()


def first_claim_lost(copy: Copy) -> None:
    copy.drop(claims(copy)[0])


def used_and_not_claimed(copy: Copy) -> None:
    copy.drop(claims(copy, "found")[0])


def started_without_asking(copy: Copy) -> None:
    change(claims(copy, "started")[-1], once_per="shop")


FAULTS = [
    granted_to_both,
    refused_to_the_first,
    not_answered,
    another_has_it,
    first_claim_lost,
    used_and_not_claimed,
    started_without_asking,
]


async def test_log_of_both_settings_is_without_a_fault(copy: Copy) -> None:
    report = await copy.verify()

    assert report.ok, "\n".join(report.lines())
    assert [len(claims(copy, why)) for why in ("asked", "started", "found")] == [5, 3, 1]
    assert [len(answers(copy, granted=granted)) for granted in (True, False)] == [2, 3]
    assert report.checks["shop-trials"].counted == 9


@pytest.mark.parametrize("policy", [POLICY, PER_SHOP], ids=["merchant", "shop"])
async def test_replay_decides_as_it_was_decided(copy: Copy, policy: Any) -> None:
    class Log:
        def __init__(self) -> None:
            self.reached: dict[tuple[str, int], int] = {}

        async def read(self, topics: Any, partition: int) -> Any:
            for topic in topics:
                records = copy.logs.get((topic, partition), [])
                begin, self.reached[topic, partition] = (
                    self.reached.get((topic, partition), 0),
                    len(records),
                )
                if records[begin:]:
                    yield records[begin:]

    report = await replay_source(Log(), TOPICS, PARTITIONS, policy)

    assert not report.differences, "\n".join(report.lines(5))


@pytest.mark.parametrize("seed", FAULTS)
async def test_fault_of_a_shops_trial_is_named(copy: Copy, seed: Callable[[Copy], None]) -> None:
    seed(copy)

    report = await copy.verify()

    assert "shop-trials" in report.faults(), "\n".join(report.lines())


@pytest.mark.parametrize("number", [0, 1, 3, 4, 5, 8])
async def test_log_of_a_broken_worker_is_a_fault(number: int) -> None:
    with SHOP_TRIAL_MUTANTS[number].alive():
        world = await played()
        await world.stop()

    report = await world.copy().verify()

    assert "shop-trials" in report.faults(), "\n".join(report.lines())
