"""What the service before this one got wrong over HTTP: faults 1, 2, 6, 9, 10 and 12."""

import json
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from billing_stream.platforms.local import Local
from billing_stream.platforms.shopify import Shopify
from billing_stream.platforms.tokens import EnvironmentTokens
from tests.platforms.conftest import request_for
from tests.platforms.fake import Reply as StoredResponse
from tests.platforms.fake import fake_platform
from tests.support.nodes import Cluster, cluster, get
from tests.support.tokens import client_headers, client_token

M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as found:
        yield found


PATHS = ("/api/billing", "/api/billing/trials", "/api/billing/purchases")
DOUBLED = (
    "/api/billing/billing",
    "/api/billing/api/billing",
    "/api/billing/trials/trials",
    "/api/billing/purchases/purchases",
    f"/api/billing/purchases/purchases/{M1}",
    "/api/billing/purchases/api/billing/purchases",
)


@pytest.mark.parametrize("slash", ["", "/"])
async def test_1_routes_have_their_prefix_once(two: Cluster, slash: str) -> None:
    await two.create(M1, "one.example")
    purchase = await two.buy(M1, 1)

    for path in (*PATHS, f"/api/billing/purchases/{purchase}"):
        assert (await two.nodes[0].get(path + slash, "one.example")).status == 200
    for path in DOUBLED:
        for method in ("GET", "POST"):
            for headers in ({}, client_headers("one.example")):
                reply = await get(two.nodes[0].url, path + slash, headers, method=method)
                assert (reply.status, reply.code) == (404, "NOT_FOUND")


async def test_2_a_purchase_of_another_merchant_is_not_found(two: Cluster) -> None:
    await two.create(M1, "one.example")
    await two.create(M2, "two.example")
    theirs = await two.buy(M2, 1)

    for node in two.nodes:
        stolen = await node.get(f"/api/billing/purchases/{theirs}", "one.example")
        missing = await node.get(f"/api/billing/purchases/{uuid.uuid4()}", "one.example")
        own = await node.get(f"/api/billing/purchases/{theirs}", "two.example")

        assert (stolen.status, stolen.code) == (404, "PURCHASE_NOT_FOUND")
        # Nothing tells it from one that does not exist.
        assert stolen.body["error"] == missing.body["error"]
        assert own.data["id"] == theirs
        assert (await node.get("/api/billing/purchases", "one.example")).data == []
        assert (await node.get("/api/billing", "one.example")).data["recent_purchases"] == []


async def test_2_also_when_both_merchants_are_on_one_partition(tmp_path: Path) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}) as one:
        merchants = [str(uuid.UUID(int=number, version=4)) for number in range(8)]
        bought = {}
        for merchant in merchants:
            await one.create(merchant, f"{merchant}.example")
            bought[merchant] = await one.buy(merchant, 1)

        for merchant in merchants:
            for owner, purchase in bought.items():
                reply = await one.nodes[0].get(
                    f"/api/billing/purchases/{purchase}", f"{merchant}.example"
                )
                assert reply.status == (200 if owner == merchant else 404)


async def test_12_the_token_names_a_shop_domain_and_not_an_id(two: Cluster) -> None:
    await two.create(M1, "one.myshopify.com")

    for node in two.nodes:
        by_domain = await node.get("/api/billing", "one.myshopify.com")
        by_id = await node.get("/api/billing", M1)
        mixed = await node.get(
            "/api/billing", **client_headers("one.myshopify.com", token=client_token(M1))
        )

        assert by_domain.status == 200
        assert (by_id.status, by_id.code) == (404, "MERCHANT_NOT_FOUND")
        assert (mixed.status, mixed.code) == (403, "FORBIDDEN")


BUY = {"pack": "small", "platform": "shopify", "return_url": "https://app.example/back"}


async def test_6_a_second_purchase_of_a_pack_has_a_charge_of_its_own(tmp_path: Path) -> None:
    platform = Local("http://127.0.0.1:1", "s" * 32)
    charges = [(await platform.create_checkout(request_for())).charge_id for _ in range(100)]

    assert len(set(charges)) == 100
    assert all(re.fullmatch(r"local_[0-9]+", c) for c in charges)


async def test_9_a_key_sent_again_opens_nothing_new(two: Cluster) -> None:
    await two.create(M1, "one.example")

    replies = [
        await node.post("/api/billing/purchases", "one.example", BUY, Idempotency_Key="k")
        for node in two.nodes
    ]

    assert replies[0].without_ids == replies[1].without_ids
    assert len((await two.nodes[0].get("/api/billing/purchases", "one.example")).data) == 1


async def test_10_a_purchase_is_a_one_time_charge_under_the_shops_own_token() -> None:
    async with fake_platform() as fake:
        created = {
            "appPurchaseOneTime": {"id": "gid://shopify/AppPurchaseOneTime/1"},
            "confirmationUrl": "https://one.myshopify.com/confirm",
            "userErrors": [],
        }
        fake.replies(StoredResponse(body={"data": {"appPurchaseOneTimeCreate": created}}))
        tokens = {"one.myshopify.com": "token-one", "two.myshopify.com": "token-two"}
        shopify = Shopify(
            EnvironmentTokens(json.dumps(tokens)),
            api_url=fake.url,
            api_version="2026-10",
            test=True,
            secrets=[],
        )
        for shop in tokens:
            await shopify.create_checkout(request_for(shop_domain=shop))
        await shopify.close()

    assert [asked.headers["X-Shopify-Access-Token"] for asked in fake.asked] == [*tokens.values()]
    for asked in fake.asked:
        assert "appPurchaseOneTimeCreate" in asked.json["query"]
        assert "ecurring" not in asked.json["query"]
