"""A platform that refuses, and one that fails for a while: what the client gets, and its key."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.platforms.fake import FakePlatform, Reply, fake_platform
from tests.support.nodes import Cluster, signed_cluster
from tests.support.nodes import Reply as Answer
from tests.web.conftest import M1

SHOP = "one.example"
PURCHASES = "/api/billing/purchases"
BUY = {"pack": "small", "platform": "stripe", "return_url": "https://app.example/back"}
SESSION = Reply(body={"id": "cs_1", "object": "checkout.session", "url": "https://pay.example/1"})


@pytest_asyncio.fixture
async def stripe() -> AsyncIterator[FakePlatform]:
    async with fake_platform() as found:
        yield found


@pytest_asyncio.fixture
async def shop(tmp_path: Path, stripe: FakePlatform) -> AsyncIterator[Cluster]:
    """Two workers that ask the fake for Stripe."""
    settings = {"STRIPE_API_KEY": "sk_test_1", "STRIPE_API_URL": stripe.url}
    async with signed_cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}, **settings) as found:
        await found.create(M1, SHOP)
        yield found


async def buy(shop: Cluster, key: str | None = "k", node: int = 0) -> Answer:
    keys = {"Idempotency_Key": key} if key else {}
    return await shop.nodes[node].post(PURCHASES, SHOP, BUY, **keys)


async def statuses(shop: Cluster) -> list[str]:
    return [one["status"] for one in (await shop.nodes[0].get(PURCHASES, SHOP)).data]


def refusal(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"type": "invalid_request_error", "message": message, **more}}


@pytest.mark.parametrize("status", [400, 402, 404, 422])
async def test_what_the_platform_refuses_is_422_with_its_reason(
    shop: Cluster, stripe: FakePlatform, status: int
) -> None:
    stripe.replies(Reply(status=status, body=refusal("Not a valid URL", code="url_invalid")))

    replies = [await buy(shop, node=number) for number in (0, 1)]

    for reply in replies:
        assert (reply.status, reply.code) == (422, "CHECKOUT_REFUSED")
        assert "stripe refuses the checkout: Not a valid URL" in reply.body["error"]["message"]
    assert [reply.replayed for reply in replies] == [False, True]
    assert replies[0].without_ids == replies[1].without_ids
    assert await statuses(shop) == ["failed"]
    assert len(stripe.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_no_fault_of_the_client(
    shop: Cluster, stripe: FakePlatform, status: int
) -> None:
    stripe.replies(Reply(status=status, body=refusal("Invalid API Key")))

    reply = await buy(shop)

    assert (reply.status, reply.code) == (502, "PLATFORM_ERROR")
    assert "refuses our credentials" in reply.body["error"]["message"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_repetition_after_a_temporary_failure_opens_the_purchase(
    shop: Cluster, stripe: FakePlatform, status: int
) -> None:
    stripe.replies(Reply(status=status))
    failed = [await buy(shop, node=number) for number in (0, 1)]
    stripe.replies(SESSION)
    opened, again = [await buy(shop, node=number) for number in (1, 0)]

    for reply in failed:
        assert (reply.status, reply.code) == (502, "PLATFORM_ERROR")
        assert "A repetition with the same key tries again" in reply.body["error"]["message"]
        assert not reply.replayed
    assert (opened.status, opened.replayed) == (201, False)
    assert opened.data["checkout_url"] == "https://pay.example/1"
    assert (again.without_ids, again.replayed) == (opened.without_ids, True)
    assert await statuses(shop) == ["pending"]
    assert shop.events("purchase.failed") == []


async def test_a_repetition_may_be_refused_for_good(shop: Cluster, stripe: FakePlatform) -> None:
    stripe.replies(Reply(status=500))
    first = await buy(shop)
    stripe.replies(Reply(status=400, body=refusal("Not a valid URL")))
    second, third = [await buy(shop) for _ in range(2)]

    assert [reply.code for reply in (first, second, third)] == [
        "PLATFORM_ERROR",
        "CHECKOUT_REFUSED",
        "CHECKOUT_REFUSED",
    ]
    assert [reply.replayed for reply in (first, second, third)] == [False, False, True]


async def test_equal_requests_during_a_failure_are_one_attempt(
    shop: Cluster, stripe: FakePlatform
) -> None:
    stripe.replies(Reply(status=500, after_seconds=0.3))
    failed = await asyncio.gather(*(buy(shop, node=number % 2) for number in range(8)))

    assert {(reply.status, reply.code) for reply in failed} == {(502, "PLATFORM_ERROR")}
    assert len(stripe.asked) == 3
    assert await statuses(shop) == ["pending"]


async def test_without_a_key_nothing_waits_for_a_repetition(
    shop: Cluster, stripe: FakePlatform
) -> None:
    stripe.replies(Reply(status=500))

    reply = await buy(shop, key=None)

    assert (reply.status, reply.code) == (502, "PLATFORM_ERROR")
    assert await statuses(shop) == ["failed"]
