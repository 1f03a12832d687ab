"""Webhooks over HTTP, signed as the platforms sign them, into workers in memory."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.dead_letters import DeadLetter
from billing_stream.records.http_dead_letters import http_delivery
from billing_stream.web.ingress import WebhookRecord
from tests.support import signed_webhooks as sent
from tests.support.nodes import PARTITIONS, Cluster, Reply, get, signed_cluster
from tests.support.signed_webhooks import SECRETS, Signed
from tests.web.conftest import M1, M2

SHOP = "one.myshopify.com"
CHARGE = "gid://shopify/AppPurchaseOneTime/1"
SESSION = {"id": "cs_1", "payment_status": "paid", "metadata": {"merchant_id": M1}}
STRIPE_CHARGE = {
    "id": "ch_1",
    "payment_intent": "pi_1",
    "amount_refunded": 999,
    "currency": "usd",
    "metadata": {"merchant_id": M1},
}
REFUND = {"kind": "refunded", "charge_id": "c-1", "merchant_id": M1}


@pytest_asyncio.fixture
async def shops(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers that know the secrets of the platforms, and a shop of M1."""
    async with signed_cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as found:
        await found.create(M1, SHOP)
        yield found


async def send(cluster: Cluster, webhook: Signed) -> Reply:
    """Send it to the worker that has nothing of the merchant."""
    url = cluster.other(M1).url
    return await get(url, webhook.path, webhook.headers, method="POST", data=webhook.body)


def records(cluster: Cluster) -> list[WebhookRecord]:
    return [kept for node in cluster.nodes for kept in node.ingress.records]


def letters(cluster: Cluster) -> list[DeadLetter]:
    return [kept for node in cluster.nodes for kept in node.ingress.letters]


def counted(cluster: Cluster, name: str, **labels: str) -> float:
    values = (node.metrics.registry.get_sample_value(name, labels) for node in cluster.nodes)
    return sum(value or 0 for value in values)


# -- what is not a webhook


def session_token() -> bytes:
    head, claims = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "typ": "JWT"}, {"dest": f"https://{SHOP}", "exp": 1})
    )
    return head + b"." + claims


TEXTS = {
    "launch": f"code=1&host=x&shop={SHOP}&state=1&timestamp=1337178173".encode(),
    "session token": session_token(),
    "list": b"[]",
    "null": b"null",
    "text": b'"x"',
    "cut": b'{"app_purchase_one_time":',
    "empty": b"",
    "not UTF-8": b'{"x": "\xff"}',
    "too deep": b'{"x":' * 5000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_what_is_signed_and_not_an_object_is_unauthorized(
    shops: Cluster, text: bytes
) -> None:
    topics = (sent.PURCHASE_TOPIC, "shop/redact", "another/topic")
    webhooks = [sent.shopify(text, SHOP, topic=topic) for topic in topics]
    for webhook in (*webhooks, sent.stripe(text), sent.custom(text)):
        reply = await send(shops, webhook)
        assert (reply.status, reply.code) == (401, "UNAUTHORIZED"), webhook.path

    assert (records(shops), letters(shops)) == ([], [])


async def test_a_session_token_cannot_be_sent_with_its_own_signature(shops: Cluster) -> None:
    text = session_token()
    digest = hmac.new(SECRETS["SHOPIFY_API_SECRET"].encode(), text, hashlib.sha256).digest()
    token = text + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")
    webhook = sent.shopify(text, SHOP)
    for body, signature in ((text, base64.b64encode(digest)), (token, base64.b64encode(digest))):
        headers = {**webhook.headers, "X-Shopify-Hmac-Sha256": signature.decode()}
        reply = await send(shops, Signed(webhook.path, headers, body))
        assert reply.status == 401

    assert letters(shops) == []


async def test_our_own_request_to_the_gateway_is_unauthorized(shops: Cluster) -> None:
    checkout = {
        "merchant_id": M1,
        "purchase_id": M2,
        "shop_domain": SHOP,
        "title": "100 credits",
        "credits": 100,
        "amount": "9.99",
        "currency": "USD",
        "return_url": "https://app.example",
    }
    reply = await send(shops, sent.custom(checkout))

    assert (reply.status, reply.code) == (401, "UNAUTHORIZED")
    assert letters(shops) == []


@pytest.mark.parametrize("change", ["", "x"])
async def test_a_bad_or_missing_signature_is_unauthorized(shops: Cluster, change: str) -> None:
    good = (
        sent.shopify(sent.charge(CHARGE), SHOP),
        sent.stripe(sent.event("charge.refunded", STRIPE_CHARGE)),
        sent.custom(REFUND),
    )
    for webhook in good:
        signature, *rest = webhook.headers
        headers = {name: webhook.headers[name] for name in rest}
        if change:
            headers[signature] = change
        reply = await send(shops, Signed(webhook.path, headers, webhook.body))
        assert (reply.status, reply.code) == (401, "UNAUTHORIZED")

    assert (records(shops), letters(shops)) == ([], [])


# -- what is valid


async def test_a_signed_payment_grants_and_a_signed_refund_takes_back(shops: Cluster) -> None:
    await shops.buy(M1, 1, paid=False)

    paid = await send(shops, sent.shopify(sent.charge(CHARGE), SHOP))
    await shops.take_webhooks()
    refund = {**REFUND, "charge_id": CHARGE, "amount": 9.99}
    refunded = await send(shops, sent.custom(refund))
    await shops.take_webhooks()

    assert (paid.data, refunded.data) == ({"accepted": True}, {"accepted": True})
    assert [event["credits"] for event in shops.events("credits.purchased")] == [100]
    assert [event["credits"] for event in shops.events("purchase.refunded")] == [100]


@pytest.mark.parametrize(
    ("amount", "kept"), [("9.99", "9.99"), (9.99, "9.99"), ("9.99000000", "9.99"), (10, "10")]
)
async def test_amounts_are_accepted_as_numbers_and_as_text(
    shops: Cluster, amount: Any, kept: str
) -> None:
    await send(shops, sent.custom({**REFUND, "amount": amount}))

    (record,) = records(shops)
    assert (record.topic, record.data["amount"]) == (names.PURCHASE_REFUNDED, kept)


# -- what is not for this service


async def test_another_type_is_ignored_and_counted_by_type(shops: Cluster) -> None:
    thin = {"id": "evt_1", "object": "v2.core.event", "type": "v2.core.account.created"}
    other = sent.event("checkout.session.completed", {**SESSION, "metadata": {}})
    for webhook in (
        sent.stripe(thin),
        sent.stripe(other),
        sent.stripe({"no": "type"}),
        sent.shopify({}, SHOP, topic="app/scopes_update"),
    ):
        assert (await send(shops, webhook)).data == {"accepted": False}

    assert (records(shops), letters(shops)) == ([], [])
    name = "billing_webhooks_ignored_total"
    assert counted(shops, name, platform="stripe", type="v2.core.account.created") == 1
    assert counted(shops, name, platform="stripe", type="checkout.session.completed") == 1
    assert counted(shops, name, platform="stripe", type="other") == 1
    assert counted(shops, name, platform="shopify", type="app/scopes_update") == 1


async def test_types_beyond_the_first_thirty_are_counted_together(shops: Cluster) -> None:
    for number in range(40):
        await send(shops, sent.stripe({"id": "evt_1", "type": f"v2.type_{number}"}))

    name = "billing_webhooks_ignored_total"
    assert counted(shops, name, platform="stripe", type="v2.type_29") == 1
    assert counted(shops, name, platform="stripe", type="v2.type_30") == 0
    assert counted(shops, name, platform="stripe", type="other") == 10


# -- what is invalid

Invalid = tuple[Callable[[], Signed], dict[str, str | None], str]
# Signed when they are sent: a signature is good for 300 s.
INVALID: dict[str, Invalid] = {
    "shopify": (
        lambda: sent.shopify(sent.charge(5), SHOP),
        {"kind": "updated", "merchant_id": M1, "delivery_id": "w-1", "shop": SHOP},
        "`app_purchase_one_time.admin_graphql_api_id` must be text, not a whole number",
    ),
    "stripe, a payment": (
        lambda: sent.stripe(sent.event("checkout.session.completed", {**SESSION, "id": ""})),
        {"kind": "updated", "merchant_id": M1, "delivery_id": "evt_1", "shop": None},
        "`data.object.id` must have at least 1 character",
    ),
    "stripe, a refund": (
        lambda: sent.stripe(sent.event("charge.refunded", {**STRIPE_CHARGE, "currency": 5})),
        {"kind": "refunded", "merchant_id": M1, "delivery_id": "evt_1"},
        "`data.object.currency` must be text, not a whole number",
    ),
    "custom, a refund": (
        lambda: sent.custom({**REFUND, "amount": "-1"}),
        {"kind": "refunded", "merchant_id": M1},
        "`amount` must be a sum of money such as 9.99",
    ),
    "custom, without a merchant": (
        lambda: sent.custom({"charge_id": "c-1", "status": "active"}),
        {"kind": "updated", "merchant_id": None},
        "`merchant_id` is missing",
    ),
    "custom, with a NUL": (
        lambda: sent.custom({"charge_id": "c\0", "status": "active", "merchant_id": M1}),
        {"kind": "updated", "merchant_id": M1},
        "charge_id contains a NUL character",
    ),
    "erasure": (
        lambda: sent.shopify({"shop_domain": 5}, SHOP, topic="shop/redact"),
        {"kind": "erasure", "merchant_id": M1, "shop": SHOP},
        "`shop_domain` must be text, not a whole number",
    ),
    "erasure, undated": (
        lambda: sent.shopify({"shop_domain": SHOP}, SHOP, topic="shop/redact", triggered=""),
        {"kind": "erasure", "merchant_id": M1, "shop": SHOP},
        "the header X-Shopify-Triggered-At is not an RFC 3339 time",
    ),
    "uninstall": (
        lambda: sent.shopify({"myshopify_domain": None}, SHOP, topic="app/uninstalled"),
        {"kind": "uninstall", "merchant_id": M1, "shop": SHOP},
        "`myshopify_domain` must be text, not null",
    ),
    "uninstall, undated": (
        lambda: sent.uninstalled(SHOP, triggered="soon"),
        {"kind": "uninstall", "merchant_id": M1, "shop": SHOP},
        "the header X-Shopify-Triggered-At is not an RFC 3339 time",
    ),
}


@pytest.mark.parametrize("case", INVALID.values(), ids=INVALID)
async def test_an_invalid_webhook_is_a_dead_letter_and_no_record(
    shops: Cluster, case: Invalid
) -> None:
    signed, named, reason = case
    webhook = signed()

    reply = await send(shops, webhook)

    assert reply.data == {"accepted": True}
    assert records(shops) == []
    (letter,) = letters(shops)
    platform = webhook.path.rpartition("/")[2]
    assert (letter.topic, letter.partition, letter.offset) == (f"http:{platform}", -1, -1)
    assert letter.reason.startswith(reason)
    assert "regex" not in letter.reason
    assert letter.value == webhook.body
    delivery: Any = http_delivery(letter)
    assert {name: getattr(delivery, name) for name in named} == named
    code = reason.partition(":")[0]
    code = code if code.isupper() else "NOT_UNDERSTOOD"
    name = "billing_dead_letters_total"
    assert counted(shops, name, topic=f"http:{platform}", reason=code) == 1


async def test_a_repeated_delivery_has_one_dead_letter(shops: Cluster) -> None:
    stripe = sent.event("charge.refunded", {**STRIPE_CHARGE, "currency": 5})
    # Stripe counts what it has still to deliver in the event.
    for webhook in (
        sent.shopify(sent.charge(5), SHOP),
        sent.stripe({**stripe, "pending_webhooks": 2}),
        sent.custom({**REFUND, "amount": "x"}),
        sent.shopify(sent.charge(5), SHOP),
        sent.stripe({**stripe, "pending_webhooks": 1}),
        sent.custom({**REFUND, "amount": "x"}),
    ):
        assert (await send(shops, webhook)).data == {"accepted": True}

    assert [letter.topic for letter in letters(shops)] == [
        "http:shopify",
        "http:stripe",
        "http:custom",
    ]


async def test_other_deliveries_have_dead_letters_of_their_own(shops: Cluster) -> None:
    for webhook in (
        sent.shopify(sent.charge(5), SHOP),
        sent.shopify(sent.charge(5), SHOP, delivery="w-2"),
        # Shopify does not sign the id of a delivery.
        sent.shopify(sent.charge(6), SHOP),
        sent.shopify(sent.charge(7), SHOP, delivery=None),
        sent.shopify(sent.charge(7), SHOP, delivery="x y" * 100),
    ):
        await send(shops, webhook)

    ids = [http_delivery(letter) for letter in letters(shops)]
    assert [one.delivery_id for one in ids if one][:3] == ["w-1", "w-2", "w-1"]
    assert all(one and one.delivery_id.startswith("sha256:") for one in ids[3:])


async def test_dead_letters_without_a_merchant_are_spread_over_partitions(
    shops: Cluster,
) -> None:
    for number in range(40):
        webhook = sent.shopify(sent.charge(5), "two.myshopify.com", delivery=f"w-{number}")
        await send(shops, webhook)

    keys = {http_delivery(letter).delivery_id for letter in letters(shops)}  # type: ignore[union-attr]
    assert {letter.key for letter in letters(shops)} == {None}
    assert {partition_of(key, PARTITIONS) for key in keys} == set(range(PARTITIONS))


async def test_a_dead_letter_that_kafka_does_not_have_is_not_acknowledged(shops: Cluster) -> None:
    for node in shops.nodes:
        node.ingress.up = False
    webhook = sent.custom({**REFUND, "amount": "x"})
    late = await send(shops, webhook)
    for node in shops.nodes:
        node.ingress.up = True
    again = await send(shops, webhook)

    assert (late.status, late.code) == (503, "NOT_READY")
    assert again.data == {"accepted": True}
    assert len(letters(shops)) == 1


async def test_many_invalid_webhooks_stop_no_partition(tmp_path: Path) -> None:
    async with signed_cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as shops:
        await shops.create(M1, SHOP)
        await shops.buy(M1, 1, paid=False)
        for number in range(1_100):
            body = {**REFUND, "amount": f"x{number}"}
            assert (await send(shops, sent.custom(body))).status == 200
        await send(shops, sent.shopify(sent.charge(CHARGE), SHOP))
        await shops.take_webhooks()

        ready = [await node.get("/ready") for node in shops.nodes]

    assert len(letters(shops)) == 1_100
    assert [event["credits"] for event in shops.events("credits.purchased")] == [100]
    assert [reply.status for reply in ready] == [200, 200]


# -- limits


async def test_above_the_limit_of_a_platform_webhooks_are_to_be_repeated(tmp_path: Path) -> None:
    async with signed_cluster(
        str(tmp_path), {0: [0, 1, 2, 3]}, BILLING_WEBHOOKS_PER_MINUTE="3"
    ) as one:
        node = one.nodes[0]

        async def post(webhook: Signed) -> Reply:
            return await get(
                node.url, webhook.path, webhook.headers, method="POST", data=webhook.body
            )

        forged = Signed("/webhooks/stripe", {"Stripe-Signature": "x"}, b"{}")
        refused = [(await post(forged)).status for _ in range(5)]
        event = sent.event("charge.refunded", STRIPE_CHARGE)
        invalid = sent.event("charge.refunded", {**STRIPE_CHARGE, "currency": 5})
        other = {"id": "evt_1", "type": "x"}
        taken = [await post(sent.stripe(body)) for body in (event, invalid, other, event, invalid)]
        custom = await post(sent.custom(REFUND))

    assert refused == [401] * 5
    assert [reply.status for reply in taken] == [200, 200, 200, 429, 429]
    assert taken[-1].code == "TOO_MANY_REQUESTS"
    assert 0 < int(taken[-1].headers["Retry-After"]) <= 60
    assert custom.status == 200
    assert (len(node.ingress.records), len(node.ingress.letters)) == (2, 1)


DISPUTE = {"id": "dp_1", "payment_intent": "pi_1", "amount": 999, "currency": "usd"}


# Signed when they are sent: a signature is valid for five minutes.
@pytest.mark.parametrize(
    ("webhook", "topic", "said"),
    [
        (
            lambda: sent.custom(
                {"charge_id": "c-1", "merchant_id": M1, "status": "active", "amount": 9.99}
            ),
            names.PURCHASE_UPDATED,
            {"status": "active", "amount": "9.99"},
        ),
        (
            lambda: sent.custom(
                {**REFUND, "refund_id": "r1", "amount": "4.99000000", "currency": "usd"}
            ),
            names.PURCHASE_REFUNDED,
            {"refund_id": "r1", "amount": "4.99", "currency": "USD"},
        ),
        (
            lambda: sent.custom(
                {**REFUND, "kind": "refund_failed", "refund_id": "r1", "amount": 4.99}
            ),
            names.REFUND_FAILED,
            {"refund_id": "r1", "amount": "4.99"},
        ),
        (
            lambda: sent.custom(
                {**REFUND, "kind": "disputed", "dispute_id": "d1", "status": "withdrawn"}
            ),
            names.PURCHASE_DISPUTED,
            {"dispute_id": "d1", "status": "withdrawn"},
        ),
        (
            lambda: sent.stripe(
                sent.event(
                    "checkout.session.completed",
                    {**SESSION, "amount_total": 1, "currency": "usd"},
                )
            ),
            names.PURCHASE_UPDATED,
            {"status": "active", "amount": "0.01", "currency": "USD"},
        ),
        (
            lambda: sent.stripe(sent.event("charge.refunded", {**STRIPE_CHARGE, "amount": 1998})),
            names.PURCHASE_REFUNDED,
            {"amount": "9.99", "charge_amount": "19.98", "currency": "USD"},
        ),
        (
            lambda: sent.stripe(
                sent.event(
                    "charge.dispute.funds_withdrawn",
                    {**DISPUTE, "metadata": {"merchant_id": M1}},
                )
            ),
            names.PURCHASE_DISPUTED,
            {"dispute_id": "dp_1", "status": "withdrawn", "amount": "9.99", "currency": "USD"},
        ),
    ],
    ids=["paid", "refund", "refund failed", "dispute", "stripe paid", "stripe", "stripe dispute"],
)
async def test_amounts_refunds_and_disputes_reach_their_topics(
    shops: Cluster, webhook: Callable[[], Signed], topic: str, said: dict[str, Any]
) -> None:
    reply = await send(shops, webhook())

    assert reply.data == {"accepted": True}
    (kept,) = records(shops)
    assert kept.topic == topic
    assert {name: kept.data[name] for name in said} == said


async def test_an_unknown_status_never_reaches_a_topic(shops: Cluster) -> None:
    reply = await send(
        shops, sent.custom({"charge_id": "c-1", "merchant_id": M1, "status": "paid"})
    )

    assert reply.data == {"accepted": True}
    assert records(shops) == []
    (letter,) = letters(shops)
    assert letter.reason.startswith("UNKNOWN_STATUS: no status 'paid'")


async def test_a_dispute_of_another_system_is_ignored(shops: Cluster) -> None:
    """Without an account of Stripe nobody can be asked for its payment."""
    reply = await send(shops, sent.stripe(sent.event("charge.dispute.funds_withdrawn", DISPUTE)))

    assert reply.data == {"accepted": False}
    assert records(shops) == []
    assert letters(shops) == []
