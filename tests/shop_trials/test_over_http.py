"""With TRIAL_ONCE_PER=shop, merchants of one shop have one trial, wherever their partitions are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from billing_stream.domain.commands import CreateMerchant, ExtendTrial, ForgetMerchant, StartTrial
from billing_stream.domain.outcomes import Rejected, TrialAsked
from billing_stream.domain.shop_trial import shop_trial_key
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.web import shop_trials
from tests.support.nodes import PARTITIONS, Cluster, Reply, cluster

# On two partitions, and the shop's trial on a third.
M1 = "11111111-1111-4111-8111-111111111111"
M2 = "44444444-4444-4444-8444-444444444444"
ONE, TWO, OTHER = "one.example", "two.example", "other.example"
SHOP_ID = "gid://shopify/Shop/2"
OWNED = {0: [0, 1], 1: [2, 3]}
PER_SHOP = {"TRIAL_ONCE_PER": "shop"}


@asynccontextmanager
async def shops(folder: Path, **settings: str) -> AsyncIterator[Cluster]:
    """Two workers, two merchants of one shop, and what lanes write for others is delivered."""
    async with cluster(str(folder), OWNED, **settings) as found:
        for merchant_id, domain in ((M1, ONE), (M2, TWO)):
            await create(found, merchant_id, domain)
        async with delivered(found):
            yield found


async def create(found: Cluster, merchant_id: str, domain: str, shop: str | None = SHOP_ID) -> None:
    await found.do(CreateMerchant(merchant_id, "shopify", domain, f"create/{domain}", shop))
    for _ in range(100):
        # What is delivered meanwhile may be on its way.
        if (await found.nodes[0].get("/api/billing", domain)).status == 200:
            return
    raise AssertionError(f"{domain} is not known")


@asynccontextmanager
async def delivered(found: Cluster) -> AsyncIterator[None]:
    """Have every lane take what others wrote for it, while this lasts."""

    async def deliver() -> None:
        while True:
            await found.tell_shops()
            await asyncio.sleep(0.001)

    task = asyncio.create_task(deliver())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def start(found: Cluster, domain: str, key: str | None = None, node: int = 0) -> Reply:
    body = {"idempotency_key": key} if key else None
    return await found.nodes[node].post("/api/billing/trials", domain, body)


async def available(found: Cluster, domain: str, node: int = 0) -> list[bool]:
    """What both pages say."""
    trial = await found.nodes[node].get("/api/billing/trials", domain)
    page = await found.nodes[node].get("/api/billing", domain)
    return [trial.data["available"], page.data["trial"]["available"]]


def started(found: Cluster) -> list[str]:
    return [event["merchant_id"] for event in found.events("trial.started")]


def test_merchants_and_their_shop_lie_on_three_partitions() -> None:
    keys = (M1, M2, shop_trial_key("shopify", SHOP_ID))
    assert len({partition_of(key, PARTITIONS) for key in keys}) == 3


@pytest.mark.parametrize("node", [0, 1])
async def test_second_merchant_of_a_shop_has_no_trial(tmp_path: Path, node: int) -> None:
    async with shops(tmp_path, **PER_SHOP) as found:
        assert await available(found, TWO) == [True, True]
        first = await start(found, ONE, node=node)
        assert (first.status, first.data["credits_granted"]) == (201, 500)
        assert await available(found, ONE, node) == await available(found, TWO, node)
        assert await available(found, TWO, node) == [False, False]
        second = await start(found, TWO, node=node)
        assert (second.status, second.code) == (409, "TRIAL_ALREADY_USED")
        again = await start(found, ONE, node=node)
        assert (again.status, again.code) == (409, "TRIAL_ALREADY_USED")
        assert started(found) == [M1]


async def test_merchants_that_start_at_once_have_one_trial(tmp_path: Path) -> None:
    async with shops(tmp_path, **PER_SHOP) as found:
        asked = [start(found, domain, node=node) for domain in (ONE, TWO) for node in (0, 1)]
        replies = await asyncio.gather(*asked)
        assert sorted(reply.status for reply in replies) == [201, 409, 409, 409]
        assert len(started(found)) == 1


async def test_repeated_key_has_the_one_answer(tmp_path: Path) -> None:
    async with shops(tmp_path, **PER_SHOP) as found:
        first, again = [await start(found, ONE, "k") for _ in range(2)]
        assert (first.status, first.replayed, again.replayed) == (201, False, True)
        assert again.without_ids == first.without_ids
        refused = [await start(found, TWO, "k") for _ in range(2)]
        assert [(one.status, one.code) for one in refused] == [(409, "TRIAL_ALREADY_USED")] * 2


async def test_request_that_waits_too_long_is_503_then_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop_trials, "LOOKS_MAX", 2)
    async with cluster(str(tmp_path), OWNED, **PER_SHOP) as found:
        await create(found, M1, ONE)
        late = await start(found, ONE, "k")
        assert (late.status, late.code, late.headers["Retry-After"]) == (503, "NOT_READY", "1")
        assert started(found) == []
        await found.tell_shops()
        again = await start(found, ONE, "k")
        assert (again.status, started(found)) == (201, [M1])


async def test_unknown_shop_and_another_shop_have_a_trial(tmp_path: Path) -> None:
    async with shops(tmp_path, **PER_SHOP) as found:
        assert (await start(found, ONE)).status == 201
        for number, shop in enumerate((None, None, "gid://shopify/Shop/8")):
            domain = f"shop-{number}.example"
            await create(found, f"5555555{number}-5555-4555-8555-555555555555", domain, shop)
            assert await available(found, domain) == [True, True]
            assert (await start(found, domain)).status == 201


async def test_once_per_merchant_is_the_default(tmp_path: Path) -> None:
    async with shops(tmp_path) as found:
        assert [(await start(found, domain)).status for domain in (ONE, TWO)] == [201, 201]


async def test_trials_before_the_setting_count_for_it(tmp_path: Path) -> None:
    # What a worker without the setting wrote is all there when the setting is switched on.
    apart = {0: {"TRIAL_ONCE_PER": "merchant"}, 1: {"TRIAL_ONCE_PER": "shop"}}
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3], 1: []}, apart) as found, delivered(found):
        await create(found, M1, ONE)
        assert (await start(found, ONE)).status == 201
        await create(found, M2, TWO)
        await found.nodes[0].own([])
        await found.nodes[1].own([0, 1, 2, 3])
        found.assign({0: [], 1: [0, 1, 2, 3]})
        assert await available(found, TWO, 1) == [False, False]
        assert (await start(found, TWO, node=1)).status == 409


async def test_trial_of_a_shop_that_is_known_later_counts(tmp_path: Path) -> None:
    async with cluster(str(tmp_path), OWNED, **PER_SHOP) as found, delivered(found):
        await create(found, M1, ONE, None)
        assert (await start(found, ONE)).status == 201
        await create(found, M1, OTHER)
        await create(found, M2, TWO)
        assert (await start(found, TWO)).status == 409


async def test_forgotten_merchant_keeps_the_trial_of_its_shop(tmp_path: Path) -> None:
    async with shops(tmp_path, **PER_SHOP) as found:
        assert (await start(found, ONE)).status == 201
        await found.ask(ForgetMerchant(M1, "forget"))
        assert (await start(found, TWO)).status == 409
        written = [r for p in range(PARTITIONS) for r in found.log.topics.get((names.SHOPS, p), [])]
        assert written
        assert not [
            r
            for r in written
            if b"trial_claimed" in (r.value or b"") and SHOP_ID.encode() in (r.value or b"")
        ]


async def test_start_by_a_record_waits_for_its_shop(tmp_path: Path) -> None:
    async with shops(tmp_path, **PER_SHOP) as found:
        assert await found.ask(StartTrial(M1, "k", "a")) == TrialAsked()
        assert await found.ask(StartTrial(M2, "k", "b")) == TrialAsked()
        assert sorted(
            [(await start(found, ONE, "k")).status, (await start(found, TWO, "k")).status]
        ) == [201, 409]
        assert len(started(found)) == 1


async def test_refused_trial_cannot_be_extended(tmp_path: Path) -> None:
    async with shops(tmp_path, **PER_SHOP) as found:
        await start(found, ONE)
        await start(found, TWO)
        reply = await found.ask(ExtendTrial(M2, "kind", "x", days=3))
        assert isinstance(reply, Rejected)
        assert reply.code == "TRIAL_NOT_EXTENDABLE"
