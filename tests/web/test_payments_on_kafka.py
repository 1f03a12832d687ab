"""From a checkout to the credits, with real workers, a real Kafka and signed webhooks."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import stripe

from billing_stream.records.topics import Topics
from tests.platforms.fake import FakePlatform, Reply, fake_platform
from tests.support.audit import Audit
from tests.support.shop import Shop, create_merchants, shop
from tests.support.worker import Worker, create_topics, environment, worker

M1 = "11111111-1111-4111-8111-111111111111"
DOMAIN = "one.myshopify.com"
PURCHASES = "/api/billing/purchases"
SHOPIFY_SECRET = "shopify-secret-for-tests-0123456789"
STRIPE_SECRET = "whsec_for_tests_0123456789"
CUSTOM_SECRET = "gateway-secret-for-tests-0123456789"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://app.example/back"}

pytestmark = pytest.mark.timeout(120)


class Market:
    """Two workers, a shop, a fake of the platforms, and what was published."""

    def __init__(
        self, client: Shop, workers: list[Worker], fake: FakePlatform, audit: Audit
    ) -> None:
        self.client = client
        self.workers = workers
        self.fake = fake
        self._audit = audit

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """The data of the committed events of one kind."""
        return [event["data"] for event in (await self._audit.events())[kind]]

    async def total(self) -> int:
        """The merchant's credits."""
        return int((await self.client.insist("GET", "/api/billing")).data["credits_purchased"])

    async def post(self, path: str, raw: bytes, headers: dict[str, str], number: int = 0) -> int:
        """Send a webhook to a worker; the status."""
        url = self.workers[number % len(self.workers)].url + path
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=raw, headers=headers) as response,
        ):
            return response.status

    async def shopify(self, charge: str, status: str, number: int = 0) -> int:
        """A webhook as Shopify sends it; each delivery has another id."""
        body = {
            "app_purchase_one_time": {
                "admin_graphql_api_id": charge,
                "name": "100 credits",
                "status": status,
                "admin_graphql_api_shop_id": "gid://shopify/Shop/1",
                "created_at": "2026-06-09T11:54:13-04:00",
                "updated_at": "2026-06-09T11:54:16-04:00",
            }
        }
        raw = json.dumps(body).encode()
        mac = hmac.new(SHOPIFY_SECRET.encode(), raw, hashlib.sha256).digest()
        headers = {
            "X-Shopify-Hmac-Sha256": base64.b64encode(mac).decode(),
            "X-Shopify-Topic": "app_purchases_one_time/update",
            "X-Shopify-Shop-Domain": DOMAIN,
            "X-Shopify-Webhook-Id": f"w-{number}",
        }
        return await self.post("/webhooks/shopify", raw, headers, number)

    async def stripe(self, kind: str, fields: dict[str, Any]) -> int:
        """An event as Stripe sends it, signed by Stripe's own library."""
        body = {"id": "evt_1", "object": "event", "type": kind, "data": {"object": fields}}
        text = json.dumps(body)
        header = stripe.WebhookSignature.generate_signature_header(text, STRIPE_SECRET)
        return await self.post("/webhooks/stripe", text.encode(), {"Stripe-Signature": header})

    async def custom(self, fields: dict[str, Any]) -> int:
        """A webhook of the gateway."""
        text, moment = json.dumps(fields), int(time.time())
        mac = hmac.new(CUSTOM_SECRET.encode(), f"{moment}.{text}".encode(), hashlib.sha256)
        headers = {"X-Billing-Signature": f"t={moment},v1={mac.hexdigest()}"}
        return await self.post("/webhooks/custom", text.encode(), headers)


@pytest_asyncio.fixture
async def market(kafka: str, prefix: str, folder: Path) -> AsyncIterator[Market]:
    """Real adapters, whose platforms are fakes."""
    async with fake_platform() as fake:
        env = environment(
            kafka,
            prefix,
            SHOPIFY_API_SECRET=SHOPIFY_SECRET,
            SHOPIFY_API_VERSION="2026-10",
            SHOPIFY_ACCESS_TOKENS=json.dumps({DOMAIN: "shpat_for_tests"}),
            SHOPIFY_API_URL=fake.url,
            STRIPE_API_KEY="sk_test_for_tests",
            STRIPE_WEBHOOK_SECRET=STRIPE_SECRET,
            STRIPE_API_URL=fake.url,
            CUSTOM_GATEWAY_URL=fake.url + "/checkouts",
            CUSTOM_GATEWAY_SECRET=CUSTOM_SECRET,
        )
        await create_topics(env)
        await create_merchants(kafka, prefix, {M1: DOMAIN})
        async with (
            worker(env, folder) as first,
            worker(env, folder) as second,
            shop(DOMAIN, first, second) as client,
        ):
            audit = Audit(kafka, Topics("billing-stream", prefix))
            yield Market(client, [first, second], fake, audit)
            for one in (first, second):
                log = one.tail()
                for secret in (SHOPIFY_SECRET, STRIPE_SECRET, CUSTOM_SECRET, "shpat_", "sk_test"):
                    assert secret not in log


def shopify_gives(fake: FakePlatform, charge: str) -> None:
    """Shopify's answer to a create."""
    created = {
        "appPurchaseOneTime": {"id": charge, "status": "PENDING", "test": True},
        "confirmationUrl": f"https://{DOMAIN}/confirm/1",
        "userErrors": [],
    }
    fake.replies(Reply(body={"data": {"appPurchaseOneTimeCreate": created}}))


async def test_a_shopify_purchase_paid_a_hundred_times_at_once_is_granted_once(
    market: Market,
) -> None:
    charge = "gid://shopify/AppPurchaseOneTime/1"
    shopify_gives(market.fake, charge)
    opened = await market.client.insist("POST", PURCHASES, BUY, Idempotency_Key="k")
    assert opened.data["checkout_url"] == f"https://{DOMAIN}/confirm/1"
    purchase_id = opened.data["purchase_id"]

    assert await market.shopify(charge, "PENDING") == 200
    statuses = await asyncio.gather(*(market.shopify(charge, "ACTIVE", n) for n in range(100)))
    paid = await market.client.until_status(purchase_id, "completed")
    for late in ("PENDING", "DECLINED", "EXPIRED", "ACTIVE"):
        assert await market.shopify(charge, late) == 200
    await asyncio.sleep(0.5)

    assert set(statuses) == {200}
    assert (await market.client.until_status(purchase_id, "completed")) == paid
    assert await market.total() == 100
    assert [e["purchase_id"] for e in await market.events("credits.purchased")] == [purchase_id]
    assert await market.events("purchase.failed") == []
    (asked,) = market.fake.asked
    assert b"appPurchaseOneTimeCreate" in asked.body
    assert b"Recurring" not in asked.body
    assert asked.headers["X-Shopify-Access-Token"] == "shpat_for_tests"


async def test_shopify_purchase_with_its_webhook_before_the_answer_is_granted(
    market: Market,
) -> None:
    charge = "gid://shopify/AppPurchaseOneTime/2"
    assert await market.shopify(charge, "ACTIVE") == 200
    shopify_gives(market.fake, charge)

    opened = await market.client.insist("POST", PURCHASES, BUY)

    await market.client.until_status(opened.data["purchase_id"], "completed")
    assert await market.total() == 100


async def test_stripe_payment_grants_credits_and_a_refund_removes_its_share(
    market: Market,
) -> None:
    session = {"id": "cs_test_1", "url": "https://checkout.stripe.example/1", "status": "open"}
    market.fake.replies(Reply(body=session))
    body = {**BUY, "platform": "stripe", "pack": "large"}
    opened = await market.client.insist("POST", PURCHASES, body, Idempotency_Key="k")
    purchase_id = opened.data["purchase_id"]
    ours = {"merchant_id": M1, "purchase_id": purchase_id}
    paid = {"id": "cs_test_1", "object": "checkout.session", "metadata": ours}
    (asked,) = market.fake.asked
    assert purchase_id in asked.headers["Idempotency-Key"]

    # A delayed method: complete, and not paid yet.
    await market.stripe("checkout.session.completed", {**paid, "payment_status": "unpaid"})
    await asyncio.sleep(0.3)
    assert (await market.client.until_status(purchase_id, "pending"))["completed_at"] is None
    await market.stripe(
        "checkout.session.async_payment_succeeded", {**paid, "payment_status": "paid"}
    )
    await market.client.until_status(purchase_id, "completed")
    assert await market.total() == 1000
    await market.stripe("checkout.session.expired", {**paid, "payment_status": "unpaid"})
    charge = {"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "currency": "usd"}
    for refunded in (2333, 2333, 6999):
        status = await market.stripe(
            "charge.refunded", {**charge, "metadata": ours, "amount_refunded": refunded}
        )
        assert status == 200
    await market.client.until_status(purchase_id, "refunded")

    assert await market.total() == 0
    refunds = await market.events("purchase.refunded")
    assert [(e["credits"], e["amount"]) for e in refunds] == [(333, "23.33"), (667, "46.66")]
    assert len(await market.events("credits.purchased")) == 1


async def test_disputes_and_failed_refunds_of_stripe_follow_its_money(market: Market) -> None:
    session = {"id": "cs_test_1", "url": "https://checkout.stripe.example/1", "status": "open"}
    market.fake.replies(Reply(body=session))
    opened = await market.client.insist("POST", PURCHASES, {**BUY, "platform": "stripe"})
    purchase_id = opened.data["purchase_id"]
    ours = {"merchant_id": M1, "purchase_id": purchase_id}
    paid = {"id": "cs_test_1", "payment_status": "paid", "metadata": ours}
    # Refunds and disputes do not have the metadata of their payment: Stripe is asked for it.
    payment = {"id": "pi_1", "amount": 999, "currency": "usd", "metadata": ours}
    market.fake.replies(Reply(body=payment))
    dispute = {"id": "dp_1", "payment_intent": "pi_1", "amount": 999, "currency": "usd"}
    refund = {"id": "re_1", "payment_intent": "pi_1", "amount": 500, "currency": "usd"}
    charge = {"id": "ch_1", "payment_intent": "pi_1", "amount": 999, "currency": "usd"}
    refunded = {**charge, "metadata": ours, "amount_refunded": 500}
    sums = []
    for kind, fields, left in (
        ("checkout.session.completed", {**paid, "amount_total": 999, "currency": "usd"}, 100),
        ("charge.dispute.funds_withdrawn", {**dispute, "status": "needs_response"}, 0),
        ("charge.dispute.funds_reinstated", {**dispute, "status": "won"}, 100),
        ("charge.refunded", refunded, 50),
        ("refund.failed", {**refund, "status": "failed"}, 100),
    ):
        assert await market.stripe(kind, fields) == 200
        for _ in range(100):
            if await market.total() == left:
                break
            await asyncio.sleep(0.1)
        sums.append(await market.total())

    assert sums == [100, 0, 100, 50, 100]
    assert [e["credits"] for e in await market.events("purchase.disputed")] == [-100]
    assert [e["credits"] for e in await market.events("purchase.dispute_closed")] == [100]
    assert [e["credits"] for e in await market.events("purchase.refund_failed")] == [50]


async def test_a_gateway_of_our_own_is_asked_and_tells_the_outcome(market: Market) -> None:
    market.fake.replies(Reply(body={"charge_id": "c-1", "checkout_url": "https://pay.example/1"}))
    opened = await market.client.insist("POST", PURCHASES, {**BUY, "platform": "custom"})
    told = {"charge_id": "c-1", "merchant_id": M1, "status": "accepted"}

    status = await market.custom(told)

    assert status == 200
    await market.client.until_status(opened.data["purchase_id"], "completed")


async def test_what_is_forged_changes_nothing(market: Market) -> None:
    charge = "gid://shopify/AppPurchaseOneTime/3"
    shopify_gives(market.fake, charge)
    opened = await market.client.insist("POST", PURCHASES, BUY)
    raw = json.dumps(
        {"app_purchase_one_time": {"admin_graphql_api_id": charge, "status": "ACTIVE"}}
    )

    for path in ("/webhooks/shopify", "/webhooks/stripe", "/webhooks/custom"):
        for headers in (
            {},
            {"X-Shopify-Hmac-Sha256": "AAAA", "X-Shopify-Shop-Domain": DOMAIN},
            {"Stripe-Signature": "t=1,v1=00"},
            {"X-Billing-Signature": "t=1,v1=00"},
        ):
            assert await market.post(path, raw.encode(), headers) == 401

    await asyncio.sleep(0.3)
    await market.client.until_status(opened.data["purchase_id"], "pending")
    assert await market.total() == 0


async def test_a_platform_that_fails_for_good_is_a_502_for_ever_under_its_key(
    market: Market,
) -> None:
    market.fake.replies(Reply(status=401, body={"errors": "[API] Invalid API key"}))

    replies = [
        await market.client.insist("POST", PURCHASES, BUY, Idempotency_Key="k") for _ in range(3)
    ]

    assert {(reply.status, reply.code) for reply in replies} == {(502, "PLATFORM_ERROR")}
    assert len({reply.without_ids for reply in replies}) == 1
    assert len(await market.events("purchase.failed")) == 1
