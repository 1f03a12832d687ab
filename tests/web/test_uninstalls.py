"""A shop uninstalls the app, and asks to be erased: signed webhooks, to the merchant's own lane."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.domain.commands import CreateMerchant
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.web.ingress import WebhookRecord
from tests.support import signed_webhooks as sent
from tests.support.nodes import PARTITIONS, Cluster, Reply, cluster, get, signed_cluster
from tests.support.signed_webhooks import Signed
from tests.web.conftest import M1, M2

SHOP = "one.myshopify.com"
OTHER = "two.myshopify.com"
CHARGE = "gid://shopify/AppPurchaseOneTime/1"
BILLING = "/api/billing"
PURCHASES = "/api/billing/purchases"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://one.example/done"}
IGNORED = "billing_webhooks_ignored_total"


def at(**after: float) -> str:
    """The time so long after now, as Shopify writes it."""
    return (datetime.now(UTC) + timedelta(**after)).isoformat().replace("+00:00", "Z")


NEVER = at(days=-3650)
# Of M1.
HERE = partition_of(M1, PARTITIONS)


@pytest_asyncio.fixture
async def shops(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers that know the secrets of the platforms, and a shop of M1."""
    async with signed_cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as found:
        await found.create(M1, SHOP)
        yield found


async def post(on: Cluster, webhook: Signed) -> Reply:
    """Send it to the worker that has nothing of the merchant."""
    url = on.other(M1).url
    return await get(url, webhook.path, webhook.headers, method="POST", data=webhook.body)


async def send(on: Cluster, *webhooks: Signed) -> list[Any]:
    """Send them, and let the lanes take what came of them; the data of the responses."""
    replies = [(await post(on, webhook)).data for webhook in webhooks]
    await on.take_webhooks()
    await on.tell_shops()
    return replies


def records(on: Cluster) -> list[WebhookRecord]:
    return [kept for node in on.nodes for kept in node.ingress.records]


def letters(on: Cluster) -> list[Any]:
    mine = [kept for node in on.nodes for kept in node.ingress.letters]
    return mine + [json.loads(r.value or b"") for r in on.log.read(names.DEAD_LETTERS)]


def counted(on: Cluster, name: str, **labels: str) -> float:
    values = (node.metrics.registry.get_sample_value(name, labels) for node in on.nodes)
    return sum(value or 0 for value in values)


async def test_an_uninstall_expires_what_is_open_and_keeps_credits(shops: Cluster) -> None:
    await shops.buy(M1, 1)
    opened = [await shops.buy(M1, number, paid=False) for number in (2, 3)]

    assert await send(shops, sent.uninstalled(SHOP, at())) == [{"accepted": True}]

    assert shops.events("merchant.uninstalled") == [{"merchant_id": M1}]
    expired = shops.events("purchase.expired")
    assert [event["reason"] for event in expired] == ["uninstalled"] * 2
    assert sorted(event["purchase_id"] for event in expired) == sorted(opened)
    billing = (await shops.nodes[0].get(BILLING, SHOP)).data
    assert billing["credits_purchased"] == 100
    assert [one["status"] for one in billing["recent_purchases"]].count("expired") == 2
    assert letters(shops) == []


async def test_the_event_has_envelope_key_and_id_as_others(shops: Cluster) -> None:
    await send(shops, sent.uninstalled(SHOP, at()))

    topic = names.event_type("merchant.uninstalled")
    (record,) = shops.log.read(topic)
    said = json.loads(record.value or b"")
    assert record.key == M1.encode()
    assert (said["event_type"], said["source_service"]) == (topic, "billing-service")
    assert said.keys() == {
        "event_id",
        "event_type",
        "correlation_id",
        "source_service",
        "timestamp",
        "data",
    }


async def test_repeated_webhooks_publish_one_event(shops: Cluster) -> None:
    when = at()
    again = [sent.uninstalled(SHOP, when, delivery=f"w-{number}") for number in range(3)]

    await send(shops, *again)
    await send(shops, *again)

    assert len(shops.events("merchant.uninstalled")) == 1
    assert letters(shops) == []


@pytest.mark.parametrize("webhook", [sent.uninstalled, sent.redact])
async def test_it_is_accepted_when_its_command_is_in_kafka(shops: Cluster, webhook: Any) -> None:
    for node in shops.nodes:
        node.ingress.up = False
    late = await post(shops, webhook(SHOP, at()))
    for node in shops.nodes:
        node.ingress.up = True

    assert (late.status, late.code) == (503, "NOT_READY")
    assert (await post(shops, webhook(SHOP, at()))).data == {"accepted": True}
    (record,) = records(shops)
    assert (record.topic, record.key) == (names.COMMANDS, M1)


@pytest.mark.parametrize("webhook", [sent.uninstalled, sent.redact])
async def test_a_shop_installed_since_then_is_left_alone(
    shops: Cluster, webhook: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await shops.buy(M1, 1, paid=False)

    assert await send(shops, webhook(SHOP, NEVER)) == [{"accepted": True}]

    for kind in ("merchant.uninstalled", "merchant.forgotten", "purchase.expired"):
        assert shops.events(kind) == []
    assert any("a newer one is known" in line for line in caplog.messages)
    assert letters(shops) == []


@pytest.mark.parametrize("webhook", [sent.uninstalled, sent.redact])
async def test_a_shop_that_no_merchant_has_is_answered_and_counted(
    shops: Cluster, webhook: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    signed: Signed = webhook(OTHER, at())

    assert await send(shops, signed, signed) == [{"accepted": False}] * 2

    assert (records(shops), letters(shops)) == ([], [])
    type_ = signed.headers["X-Shopify-Topic"]
    assert counted(shops, IGNORED, platform="shopify", type=type_) == 2
    assert f"a webhook {type_} of shopify: no merchant has the shop" in caplog.messages
    assert OTHER not in caplog.text


@pytest.mark.parametrize("topic", ["customers/data_request", "customers/redact"])
async def test_what_is_asked_about_customers_is_answered_and_counted(
    shops: Cluster, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    body = {"shop_id": 1, "shop_domain": SHOP, "customer": {"id": 1, "email": "a@b.example"}}
    good = sent.shopify(body, SHOP, topic=topic)
    bad = Signed(good.path, {**good.headers, "X-Shopify-Hmac-Sha256": "bm8="}, good.body)

    forged = await post(shops, bad)
    assert await send(shops, good) == [{"accepted": False}]

    assert (forged.status, forged.code) == (401, "UNAUTHORIZED")
    assert (records(shops), letters(shops)) == ([], [])
    assert counted(shops, IGNORED, platform="shopify", type=topic) == 1
    assert any("no data of customers" in line for line in caplog.messages)
    assert "a@b.example" not in caplog.text


@pytest.mark.parametrize("webhook", [sent.uninstalled, sent.redact])
async def test_a_forged_one_is_unauthorized(shops: Cluster, webhook: Any) -> None:
    signed: Signed = webhook(SHOP, at())
    for headers in (
        {**signed.headers, "X-Shopify-Hmac-Sha256": "bm8="},
        {name: v for name, v in signed.headers.items() if name != "X-Shopify-Hmac-Sha256"},
    ):
        reply = await post(shops, Signed(signed.path, headers, signed.body))
        assert (reply.status, reply.code) == (401, "UNAUTHORIZED")
    assert (records(shops), letters(shops)) == ([], [])


async def test_erasure_follows_two_days_after_the_uninstall(shops: Cluster) -> None:
    await shops.buy(M1, 1)
    await send(shops, sent.uninstalled(SHOP, at()))
    # Others remember for some seconds whose shop it was.
    node = shops.owner(f"shopify:{SHOP}")
    before = await node.get(BILLING, SHOP)
    await send(shops, sent.redact(SHOP, at(hours=48)))
    after = await node.get(BILLING, SHOP)

    assert shops.events("merchant.forgotten") == [{"merchant_id": M1}]
    assert before.data["credits_purchased"] == 100
    assert (after.status, after.code) == (404, "MERCHANT_NOT_FOUND")
    # Shopify repeats it: nobody has the shop now.
    assert await send(shops, sent.redact(SHOP, at(hours=48))) == [{"accepted": False}]
    assert letters(shops) == []


async def test_a_client_reads_on_and_buys_nothing(shops: Cluster) -> None:
    node = shops.nodes[0]
    purchase = await shops.buy(M1, 1, paid=False)
    before = (await node.get(BILLING, SHOP)).data
    await send(shops, sent.uninstalled(SHOP, at()))

    after = (await node.get(BILLING, SHOP)).data
    buy = await node.post(PURCHASES, SHOP, BUY, **{"Idempotency-Key": "k1"})
    trial = await node.post(f"{BILLING}/trials", SHOP)

    assert after["trial"] == before["trial"]
    assert (await node.get(f"{PURCHASES}/{purchase}", SHOP)).data["status"] == "expired"
    assert (buy.status, buy.code) == (409, "MERCHANT_UNINSTALLED")
    assert (trial.status, trial.code) == (409, "MERCHANT_UNINSTALLED")

    await shops.do(CreateMerchant(M1, "shopify", SHOP, "again", installed_at=soon()))
    again = await node.post(PURCHASES, SHOP, BUY, **{"Idempotency-Key": "k1"})
    assert (again.status, again.replayed) == (201, False)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=1)


@pytest.mark.parametrize("paid_first", [True, False])
async def test_uninstall_and_payment_in_both_orders(shops: Cluster, paid_first: bool) -> None:
    await shops.buy(M1, 1, paid=False)
    both = [sent.shopify(sent.charge(CHARGE), SHOP), sent.uninstalled(SHOP, at())]

    await send(shops, *(both if paid_first else reversed(both)))

    assert [event["credits"] for event in shops.events("credits.purchased")] == [100]
    assert len(shops.events("purchase.expired")) == (0 if paid_first else 1)
    assert (await shops.nodes[0].get(BILLING, SHOP)).data["credits_purchased"] == 100


@pytest.mark.parametrize("return_first", [True, False])
async def test_uninstall_and_return_in_both_orders(shops: Cluster, return_first: bool) -> None:
    uninstalled, back = at(hours=1), datetime.now(UTC) + timedelta(hours=2)
    for node in shops.nodes:
        node.now = back + timedelta(hours=1)
    returned = CreateMerchant(M1, "shopify", SHOP, "back", "7", back)

    if return_first:
        await shops.do(returned)
        await shops.buy(M1, 1, paid=False)
        await send(shops, sent.uninstalled(SHOP, uninstalled))
    else:
        await send(shops, sent.uninstalled(SHOP, uninstalled))
        await shops.do(returned)
        await shops.buy(M1, 1, paid=False)

    assert len(shops.events("merchant.uninstalled")) == (0 if return_first else 1)
    assert shops.events("purchase.expired") == []
    assert (await shops.nodes[0].post(PURCHASES, SHOP, BUY)).status == 201


async def test_an_uninstall_while_a_checkout_is_being_opened(tmp_path: Path) -> None:
    """The purchase expires, nobody gets its page, and a payment of its charge still counts."""
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as shops:
        await shops.create(M1, SHOP)
        shops.platform.open.clear()
        node = shops.nodes[0]
        opening = asyncio.create_task(node.post(PURCHASES, SHOP, BUY, **{"Idempotency-Key": "k"}))
        await shops.platform.was_asked.wait()
        record = json.dumps({"command": "uninstall_merchant", "merchant_id": M1}).encode()
        await shops.take(names.COMMANDS, HERE, record)
        shops.platform.open.set()
        reply = await opening
        again = await node.post(PURCHASES, SHOP, BUY, **{"Idempotency-Key": "k"})
        await shops.tell_charges()
        (expired,) = shops.events("purchase.expired")
        charged = {"charge_id": CHARGE, "merchant_id": M1, "status": "active"}
        await shops.take(names.PURCHASE_UPDATED, HERE, json.dumps(charged).encode())

        assert (reply.status, reply.code) == (502, "PLATFORM_ERROR")
        assert (again.status, again.code) == (502, "PLATFORM_ERROR")
        assert expired["reason"] == "uninstalled"
        assert [one["purchase_id"] for one in shops.events("credits.purchased")] == [
            expired["purchase_id"]
        ]


async def test_another_merchant_may_have_the_shop(shops: Cluster) -> None:
    await shops.buy(M1, 1)
    await send(shops, sent.uninstalled(SHOP, at()))

    await shops.do(CreateMerchant(M2, "shopify", SHOP, "new", "7", soon()))

    assert (await shops.nodes[0].get(BILLING, SHOP)).data["credits_purchased"] == 0
    # A late report of the former installation concerns nobody.
    assert await send(shops, sent.uninstalled(SHOP, at(hours=-1))) == [{"accepted": True}]
    assert len(shops.events("merchant.uninstalled")) == 1
    # A late payment goes to whoever bought.
    assert shops.events("credits.purchased")[0]["merchant_id"] == M1
