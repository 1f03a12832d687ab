"""What platforms post: verified, on the webhook topic, and only then acknowledged."""

import json
from typing import Any

import pytest

from billing_stream.records import topics as names
from billing_stream.records.schemas import decode
from billing_stream.web.ingress import WebhookRecord
from tests.support.nodes import Cluster, Reply, get
from tests.support.partition import record
from tests.web.conftest import M1, M2

SHOP = "one.example"
GOOD = {"X-Good": "yes"}
CHARGE = "gid://shopify/AppPurchaseOneTime/1"
PAID = {"kind": "updated", "charge_id": CHARGE, "status": "ACTIVE"}


async def send(
    cluster: Cluster, told: Any, headers: dict[str, str] = GOOD, platform: str = "shopify"
) -> Reply:
    """A webhook, at the worker that has nothing of the merchant."""
    raw = told if isinstance(told, bytes) else json.dumps(told).encode()
    url = cluster.other(M1).url
    return await get(url, f"/webhooks/{platform}", headers, method="POST", data=raw)


def records(cluster: Cluster) -> list[WebhookRecord]:
    return [kept for node in cluster.nodes for kept in node.ingress.records]


@pytest.mark.parametrize("delivery", [None, "d-1"])
async def test_webhook_of_a_known_charge_is_keyed_by_its_merchant(
    two: Cluster, delivery: str | None
) -> None:
    await two.create(M1, SHOP)
    await two.buy(M1, 1, paid=False)

    reply = await send(two, {**PAID, "shop_domain": SHOP.upper(), "delivery_id": delivery})

    assert reply.data == {"accepted": True}
    (kept,) = records(two)
    assert (kept.topic, kept.key, kept.delivery_id) == (names.PURCHASE_UPDATED, M1, delivery)
    assert kept.data == {"merchant_id": M1, "charge_id": CHARGE, "status": "ACTIVE"}


async def test_a_webhook_that_names_the_merchant_needs_no_shop(two: Cluster) -> None:
    told = {**PAID, "merchant_id": M2}

    reply = await send(two, told, platform="stripe")

    assert reply.status == 200
    assert [kept.key for kept in records(two)] == [M2]


async def test_a_refund_goes_to_its_own_topic_with_purchase_and_amount(two: Cluster) -> None:
    told = {
        "kind": "refunded",
        "charge_id": "pi_1",
        "status": "refunded",
        "merchant_id": M1,
        "purchase_id": M2,
        "amount": "3.00",
    }

    await send(two, told, platform="stripe")

    (kept,) = records(two)
    assert kept.topic == names.PURCHASE_REFUNDED
    payload: Any = decode(kept.topic, record(kept.topic, 0, kept.data), 10_000).payload
    assert (payload.charge_id, payload.purchase_id, payload.amount) == ("pi_1", M2, "3.00")


@pytest.mark.parametrize("platform", ["shopify", "stripe"])
async def test_a_forged_webhook_is_refused_and_goes_nowhere(two: Cluster, platform: str) -> None:
    reply = await send(two, PAID, {"X-Good": "no"}, platform)

    assert (reply.status, reply.code) == (401, "UNAUTHORIZED")
    assert records(two) == []


async def test_a_webhook_about_nothing_of_ours_is_acknowledged_and_goes_nowhere(
    two: Cluster,
) -> None:
    reply = await send(two, b"null")

    assert reply.data == {"accepted": False}
    assert records(two) == []


async def test_a_webhook_is_not_acknowledged_before_kafka_has_it(two: Cluster) -> None:
    for node in two.nodes:
        node.ingress.up = False

    reply = await send(two, {**PAID, "merchant_id": M1})

    assert (reply.status, reply.code) == (503, "NOT_READY")
    assert int(reply.headers["Retry-After"]) > 0


async def test_while_nobody_knows_whose_shop_it_is_the_platform_shall_send_again(
    two: Cluster,
) -> None:
    await two.create(M1, SHOP)
    for node in two.nodes:
        await node.lanes.pause()

    reply = await send(two, {**PAID, "shop_domain": SHOP})

    assert (reply.status, reply.code) == (503, "NOT_READY")
    assert records(two) == []


async def test_a_platform_that_is_not_set_up_or_unknown_is_not_found(two: Cluster) -> None:
    for platform in ("custom", "paypal", "shopify/x"):
        reply = await send(two, PAID, platform=platform)
        assert (reply.status, reply.code) == (404, "NOT_FOUND")


async def test_a_body_that_is_too_large_is_refused(two: Cluster) -> None:
    reply = await send(two, b"x" * 300_000)

    assert (reply.status, reply.code) == (413, "BODY_TOO_LARGE")
