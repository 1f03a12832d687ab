"""What a worker lets in, and how it stops."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from billing_stream.web import limits
from billing_stream.web.commands import ShopConcurrencyLimit
from billing_stream.web.envelope import ApiError
from billing_stream.web.limits import ConcurrencyLimit, RateLimit
from tests.support.nodes import Cluster, cluster, get
from tests.support.tokens import client_headers
from tests.web.conftest import M1, M2

SHOP = "one.example"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://app.example/back"}


class Clock:
    """A clock to be set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(limit: RateLimit, shop: str, times: int) -> int:
    count = 0
    for _ in range(times):
        try:
            limit.hit(shop)
        except ApiError:
            continue
        count += 1
    return count


def test_a_shop_has_so_many_requests_a_minute_at_once_or_evenly() -> None:
    clock = Clock()
    limit = RateLimit(60, clock)

    assert taken(limit, "a", 100) == 60
    assert taken(limit, "b", 10) == 10, "shops have nothing to do with each other"
    clock.now += 10
    assert taken(limit, "a", 100) == 10
    clock.now += 1000
    assert taken(limit, "a", 100) == 60


def test_who_is_refused_is_told_for_how_long_and_then_let_in() -> None:
    clock = Clock()
    limit = RateLimit(2, clock)
    taken(limit, "a", 2)

    with pytest.raises(ApiError) as refused:
        limit.hit("a")

    wait = refused.value.retry_after
    assert wait is not None
    clock.now += wait - 1
    assert taken(limit, "a", 1) == 0
    clock.now += 1
    assert taken(limit, "a", 1) == 1


def test_a_refusal_costs_nothing_more() -> None:
    clock = Clock()
    limit = RateLimit(60, clock)
    taken(limit, "a", 1000)
    clock.now += 1

    assert taken(limit, "a", 5) == 1


def test_only_so_many_shops_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHOPS_KEPT_MAX", 10)
    limit = RateLimit(1)

    for number in range(100):
        limit.hit(f"shop-{number}")

    assert len(limit._paid_until) == 10


async def test_a_gate_that_closes_lets_nobody_in_and_waits_for_those_inside() -> None:
    gate = ConcurrencyLimit(2)
    with gate.enter():
        assert await gate.close(0.01) == 1
        with pytest.raises(ApiError), gate.enter():
            pass
        closing = asyncio.create_task(gate.close(5))
        await asyncio.sleep(0)
        assert not closing.done()
    assert await closing == 0


@pytest_asyncio.fixture
async def small(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A worker that takes three requests of a shop per minute, and two at once."""
    async with cluster(
        str(tmp_path),
        {0: [0, 1, 2, 3]},
        BILLING_REQUESTS_PER_MINUTE="3",
        BILLING_REQUESTS_WAITING_MAX="2",
        BILLING_MAX_BODY_BYTES="8192",
    ) as found:
        yield found


async def test_too_many_requests_of_a_shop_are_told_to_wait(small: Cluster) -> None:
    await small.create(M1, SHOP)
    await small.create(M2, "two.example")
    node = small.nodes[0]

    replies = [await node.get("/api/billing", SHOP) for _ in range(4)]
    other = await node.get("/api/billing", "two.example")
    forged = [await node.get("/api/billing", SHOP, Authorization="Bearer x") for _ in range(9)]

    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert replies[-1].code == "TOO_MANY_REQUESTS"
    assert 1 <= int(replies[-1].headers["Retry-After"]) <= 60
    assert other.status == 200
    assert {reply.status for reply in forged} == {401}, "nobody can use up what is another's"


async def test_a_shop_has_no_more_requests_under_other_platforms(small: Cluster) -> None:
    await small.create(M1, SHOP)
    node = small.nodes[0]

    replies = [
        await node.get("/api/billing", SHOP, X_Shop_Platform=f"p{number}") for number in range(5)
    ]

    assert [reply.status for reply in replies] == [422, 422, 422, 429, 429]


def test_headers_say_how_many_requests_may_follow_and_when_all_may() -> None:
    clock = Clock()
    limit = RateLimit(3, clock)

    told = [limit.hit("a")["RateLimit"] for _ in range(3)]
    with pytest.raises(ApiError) as refused:
        limit.hit("a")
    clock.now += 20

    assert told == ['"shop";r=2;t=20', '"shop";r=1;t=40', '"shop";r=0;t=60']
    assert refused.value.headers["RateLimit"] == '"shop";r=0;t=60'
    assert refused.value.retry_after == 20
    assert limit.hit("a") == {
        "RateLimit-Policy": '"shop";q=3;w=60',
        "RateLimit": '"shop";r=0;t=60',
    }


async def test_every_answer_to_a_known_client_tells_the_limit(small: Cluster) -> None:
    await small.create(M1, SHOP)
    node = small.nodes[0]

    good = await node.get("/api/billing", SHOP)
    bad = await node.get("/api/billing/purchases?page=0", SHOP)
    nobody = await node.get("/api/billing")
    last = await node.get("/api/billing", SHOP)
    refused = await node.get("/api/billing", SHOP)

    assert [reply.status for reply in (good, bad, nobody, last, refused)] == [
        *(200, 422, 401, 200, 429),
    ]
    assert "RateLimit" not in nobody.headers
    assert [r.headers["RateLimit"][:10] for r in (good, bad, last, refused)] == [
        *('"shop";r=2', '"shop";r=1', '"shop";r=0', '"shop";r=0'),
    ]
    assert {r.headers["RateLimit-Policy"] for r in (good, bad, last, refused)} == {
        '"shop";q=3;w=60'
    }
    assert int(refused.headers["Retry-After"]) >= 1


def test_a_shop_has_so_many_commands_in_work_and_no_more() -> None:
    in_work = ShopConcurrencyLimit(2)
    with in_work.enter("a"), in_work.enter("a"), in_work.enter("b"):
        with pytest.raises(ApiError), in_work.enter("a"):
            pass
        with in_work.enter("b"):
            pass
    with in_work.enter("a"):
        pass
    assert not in_work._in_work


async def test_more_requests_than_have_place_are_told_to_come_again(small: Cluster) -> None:
    await small.create(M1, SHOP)
    await small.create(M2, "two.example")
    node = small.nodes[0]
    small.platform.open.clear()
    waiting = [
        asyncio.create_task(node.post("/api/billing/purchases", SHOP, BUY)) for _ in range(2)
    ]
    await asyncio.wait_for(small.platform.was_asked.wait(), 5)
    await asyncio.sleep(0.1)

    refused = await node.get("/api/billing", "two.example")
    health, ready = [await get(node.url, path) for path in ("/health", "/ready")]
    small.platform.open.set()

    assert (refused.status, refused.code) == (503, "NOT_READY")
    assert int(refused.headers["Retry-After"]) > 0
    assert (health.status, ready.status) == (200, 200)
    assert [(await task).status for task in waiting] == [201, 201]
    assert (await node.get("/api/billing", "two.example")).status == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused(small: Cluster, chunked: bool) -> None:
    await small.create(M1, SHOP)

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 1000

    reply = await get(
        small.nodes[0].url,
        "/api/billing/trials",
        client_headers(SHOP),
        method="POST",
        data=slowly() if chunked else b"x" * 9000,
    )

    assert (reply.status, reply.code) == (413, "BODY_TOO_LARGE")


async def test_a_worker_that_stops_says_so_and_still_serves(small: Cluster) -> None:
    await small.create(M1, SHOP)
    node = small.nodes[0]

    node.context.gate.stopping = True
    ready, served = await get(node.url, "/ready"), await node.get("/api/billing", SHOP)
    await node.context.gate.close(1)
    closed = await node.get("/api/billing", SHOP)

    assert (ready.status, ready.code) == (503, "NOT_READY")
    assert "stopping" in ready.body["error"]["message"]
    assert served.status == 200
    assert (closed.status, closed.code) == (503, "NOT_READY")


async def test_one_more_open_purchase_than_allowed_is_answered_429(tmp_path: Path) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, BILLING_OPEN_PURCHASES_MAX="1") as one:
        await one.create(M1, SHOP)
        node = one.nodes[0]
        opened = await node.post("/api/billing/purchases", SHOP, BUY)

        keyed = {**BUY, "idempotency_key": "key"}
        refused = [await node.post("/api/billing/purchases", SHOP, body) for body in (BUY, keyed)]
        listed = await node.get("/api/billing/purchases", SHOP)

    assert opened.status == 201
    assert [(reply.status, reply.code) for reply in refused] == [
        (429, "TOO_MANY_OPEN_PURCHASES")
    ] * 2
    assert refused[0].headers["Retry-After"]
    assert len(listed.data) == 1
    assert len(one.platform.asked) == 1, "no checkout was asked for"
