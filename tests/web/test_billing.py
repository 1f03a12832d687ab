"""What merchants read, from whichever worker they ask."""

from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from billing_stream.domain.commands import StartTrial, UpdateCharge
from billing_stream.domain.shops import Shop
from billing_stream.web.pagination import cursor_after
from tests.support.nodes import Cluster
from tests.support.tokens import client_headers
from tests.web.conftest import M1, M2

SHOP = "one.example"

both = pytest.mark.parametrize("asked", [0, 1])


@both
async def test_a_new_merchant_has_everything_before_it(two: Cluster, asked: int) -> None:
    await two.create(M1, SHOP)

    reply = await two.nodes[asked].get("/api/billing", SHOP)

    trial = {"available": True, "active": False, "started_at": None, "ends_at": None}
    assert reply.data == {
        "trial": trial,
        "credits_purchased": 0,
        "last_purchase_at": None,
        "recent_purchases": [],
    }
    assert (await two.nodes[asked].get("/api/billing/trials", SHOP)).data == trial


@both
async def test_billing_shows_the_trial_the_credits_and_the_five_newest_purchases(
    two: Cluster, asked: int
) -> None:
    await two.create(M1, SHOP)
    await two.do(StartTrial(M1, command_id="t"))
    bought = [await two.buy(M1, number) for number in range(7)]

    data = (await two.nodes[asked].get("/api/billing", SHOP)).data

    assert data["trial"]["available"] is False
    assert data["trial"]["active"] is True
    started, ends = (
        datetime.fromisoformat(data["trial"][name]) for name in ("started_at", "ends_at")
    )
    assert ends - started == timedelta(days=14)
    assert data["trial"]["ends_at"].endswith("Z")
    assert data["credits_purchased"] == 700
    assert data["last_purchase_at"].endswith("Z")
    assert [p["id"] for p in data["recent_purchases"]] == bought[:1:-1]
    listed = (await two.nodes[asked].get("/api/billing/purchases", SHOP)).data
    assert data["recent_purchases"] == listed[:5]


@both
async def test_a_trial_is_over_at_its_end_though_the_expiry_was_not_told(
    two: Cluster, asked: int
) -> None:
    for node in two.nodes:
        node.now = datetime.now(UTC) - timedelta(days=14, minutes=1)
    await two.create(M1, SHOP)
    await two.do(StartTrial(M1, command_id="t"))
    for node in two.nodes:
        node.now = None

    data = (await two.nodes[asked].get("/api/billing/trials", SHOP)).data

    assert data["active"] is False
    assert data["available"] is False
    assert data["ends_at"] is not None
    assert two.log.read("evt.billing.trial.expired.v1") == []


@both
async def test_a_purchase_shows_all_its_fields(two: Cluster, asked: int) -> None:
    await two.create(M1, SHOP)
    paid, pending = await two.buy(M1, 1), await two.buy(M1, 2, paid=False)

    first = (await two.nodes[asked].get(f"/api/billing/purchases/{paid}", SHOP)).data
    second = (await two.nodes[asked].get(f"/api/billing/purchases/{pending.upper()}/", SHOP)).data

    assert list(first) == [
        "id",
        "merchant_id",
        "credits",
        "amount",
        "status",
        "platform",
        "platform_charge_id",
        "created_at",
        "completed_at",
        "expires_at",
        "currency",
        "test",
        "pack",
    ]
    assert first["id"] == paid
    assert first["merchant_id"] == M1
    assert (first["credits"], first["amount"]) == (100, "9.99")
    assert (first["status"], first["platform"]) == ("completed", "shopify")
    assert first["platform_charge_id"] == "gid://shopify/AppPurchaseOneTime/1"
    assert all(first[name].endswith("Z") for name in first if name.endswith("_at"))
    assert (second["id"], second["status"]) == (pending, "pending")
    assert second["completed_at"] is None


async def test_a_pending_purchase_past_its_end_is_shown_as_stored(two: Cluster) -> None:
    for node in two.nodes:
        node.now = datetime.now(UTC) - timedelta(days=2)
    await two.create(M1, SHOP)
    pending = await two.buy(M1, 1, paid=False)

    data = (await two.nodes[0].get(f"/api/billing/purchases/{pending}", SHOP)).data

    assert data["status"] == "pending"


@both
async def test_purchases_come_in_pages_newest_first(two: Cluster, asked: int) -> None:
    await two.create(M1, SHOP)
    newest_first = [await two.buy(M1, number) for number in range(12)][::-1]
    node = two.nodes[asked]

    first = await node.get("/api/billing/purchases", SHOP)
    last = await node.get("/api/billing/purchases?page=2", SHOP)
    small = await node.get("/api/billing/purchases/?page=3&limit=5", SHOP)
    beyond = await node.get("/api/billing/purchases?page=4&limit=5", SHOP)

    assert [p["id"] for p in first.data] == newest_first[:10]
    assert [p["id"] for p in last.data] == newest_first[10:]
    assert [p["id"] for p in small.data] == newest_first[10:]
    assert beyond.data == []
    assert first.body["pagination"] == {
        "page": 1,
        "limit": 10,
        "total": 12,
        "total_pages": 2,
        "next_cursor": cursor_after("purchases", newest_first[9]),
    }
    assert small.body["pagination"] == {
        "page": 3,
        "limit": 5,
        "total": 12,
        "total_pages": 3,
        "next_cursor": None,
    }
    assert beyond.body["pagination"]["page"] == 4


async def test_no_purchases_is_an_empty_list(two: Cluster) -> None:
    await two.create(M1, SHOP)

    reply = await two.nodes[0].get("/api/billing/purchases", SHOP)

    assert reply.data == []
    assert reply.body["pagination"] == {
        "page": 1,
        "limit": 10,
        "total": 0,
        "total_pages": 0,
        "next_cursor": None,
    }


@both
async def test_only_what_is_known_is_found(two: Cluster, asked: int) -> None:
    await two.create(M1, SHOP)
    node = two.nodes[asked]

    unknown_shop = await node.get("/api/billing", "nobody.example")
    other_platform = await node.get("/api/billing", SHOP, X_Shop_Platform="stripe")
    unknown_id = await node.get(f"/api/billing/purchases/{M2}", SHOP)

    assert (unknown_shop.status, unknown_shop.code) == (404, "MERCHANT_NOT_FOUND")
    assert (other_platform.status, other_platform.code) == (404, "MERCHANT_NOT_FOUND")
    assert (unknown_id.status, unknown_id.code) == (404, "PURCHASE_NOT_FOUND")


@both
async def test_a_merchant_known_only_by_a_webhook_has_no_billing_record(
    two: Cluster, asked: int
) -> None:
    await two.do(UpdateCharge(M1, "gid://early", "ACTIVE", "w"))
    two.nodes[asked].context.owners._cache.put(f"shopify:{SHOP}", M1)
    for node in two.nodes:
        for lane in node.lanes.values():
            lane.processor.rows.shops[f"shopify:{SHOP}"] = Shop(M1)

    for path in ("", "/trials", "/purchases", f"/purchases/{M2}"):
        reply = await two.nodes[asked].get("/api/billing" + path, SHOP)
        assert (reply.status, reply.code) == (404, "MERCHANT_NOT_FOUND")


async def test_platform_and_domain_are_the_same_in_any_letter_case(two: Cluster) -> None:
    await two.create(M1, "One.Example", "Shopify")

    reply = await two.nodes[0].get("/api/billing", "oNE.example", X_Shop_Platform="SHOPIFY")

    assert reply.data["credits_purchased"] == 0


async def test_an_old_domain_still_leads_to_the_merchant(two: Cluster) -> None:
    await two.create(M1, SHOP)
    await two.create(M1, "moved.example")

    for domain in (SHOP, "moved.example"):
        assert (await two.nodes[0].get("/api/billing", domain)).status == 200


async def test_head_is_get_without_the_body(two: Cluster) -> None:
    await two.create(M1, SHOP)
    url = two.nodes[0].url + "/api/billing"

    async with (
        aiohttp.ClientSession() as session,
        session.head(url, headers=client_headers(SHOP)) as response,
    ):
        assert response.status == 200
        assert await response.read() == b""
