"""Idempotency keys over HTTP: where they stand, and what a stored answer says of itself."""

from typing import Any

import pytest_asyncio
from multidict import CIMultiDict

from tests.support.nodes import Cluster, Reply, get
from tests.support.tokens import client_headers
from tests.web.conftest import M1

SHOP = "one.example"
TRIALS = "/api/billing/trials"
PURCHASES = "/api/billing/purchases"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://app.example/back"}


@pytest_asyncio.fixture
async def shop(two: Cluster) -> Cluster:
    await two.create(M1, SHOP)
    return two


async def test_a_key_sent_in_two_headers_counts_once(shop: Cluster) -> None:
    headers = list(client_headers(SHOP).items())

    async def post(*keys: str) -> Reply:
        sent: Any = CIMultiDict([*headers, *(("Idempotency-Key", key) for key in keys)])
        return await get(shop.nodes[0].url, PURCHASES, sent, method="POST", json=BUY)

    one, two, three = await post("k"), await post("k", "k"), await post("k", "k", "k")
    unlike = await post("k", "l")

    assert one.status == 201
    assert {two.without_ids, three.without_ids} == {one.without_ids}
    assert (unlike.status, unlike.code) == (422, "VALIDATION_ERROR")
    assert "different idempotency keys" in unlike.body["error"]["message"]
    assert len(shop.platform.asked) == 1


async def test_a_stored_answer_says_so_and_has_the_ids_of_its_request(shop: Cluster) -> None:
    first, again = [await shop.nodes[0].post(TRIALS, SHOP, Idempotency_Key="k") for _ in range(2)]
    other = await shop.nodes[1].post(TRIALS, SHOP, Idempotency_Key="k2")

    assert [reply.headers.get("Idempotent-Replayed") for reply in (first, again)] == [None, "true"]
    assert first.without_ids == again.without_ids
    for name in ("request_id", "correlation_id"):
        assert first.body["meta"][name] != again.body["meta"][name]
    assert first.headers["X-Request-ID"] == first.body["meta"]["request_id"]
    assert (other.status, other.replayed) == (409, False)
    assert other.body["meta"]["timestamp"] > first.body["meta"]["timestamp"]


async def test_an_answer_without_a_key_is_no_stored_one(shop: Cluster) -> None:
    replies = [await shop.nodes[0].post(TRIALS, SHOP) for _ in range(2)]

    assert [(reply.status, reply.replayed) for reply in replies] == [(201, False), (409, False)]
