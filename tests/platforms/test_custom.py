"""A gateway of one's own: both sides sign, with the same scheme."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.errors import PlatformError, WebhookForged, WebhookMalformed
from billing_stream.platforms.base import (
    Checkout,
    CheckoutRequest,
    PlatformEvent,
    PlatformEventKind,
)
from billing_stream.platforms.custom import Custom
from billing_stream.platforms.signatures import sign, verify
from tests.platforms.conftest import MERCHANT, NOW, PURCHASE, SHOP, quick
from tests.platforms.fake import FakePlatform, Reply

SECRET = "secret-of-the-gateway-0123456789ab"
OLD = "secret-before-0123456789abcdefghij"
OPENED = {"charge_id": "charge-1", "checkout_url": "https://pay.example/1"}


@pytest_asyncio.fixture
async def custom(fake: FakePlatform) -> AsyncIterator[Custom]:
    made = Custom(
        f"{fake.url}/open?x=1", secrets=[SECRET, OLD], http=quick("gateway"), now=lambda: NOW
    )
    yield made
    await made.close()


async def test_a_checkout_is_asked_for_with_a_signature(
    custom: Custom, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    fake.replies(Reply(status=201, body=OPENED))

    opened = await custom.create_checkout(purchase)

    assert opened == Checkout("charge-1", "https://pay.example/1")
    (asked,) = fake.asked
    assert (asked.method, asked.path) == ("POST", "/open?x=1")
    assert asked.json == {
        "purchase_id": PURCHASE,
        "merchant_id": MERCHANT,
        "credits": 500,
        "amount": "39.99",
        "currency": "USD",
        "title": "500 credits",
        "return_url": "https://app.example/billing?done=1",
        "shop_domain": SHOP,
    }
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["Idempotency-Key"] == f"billing-stream/{PURCHASE}"
    verify(asked.headers["X-Billing-Signature"], asked.body, [SECRET], NOW)
    with pytest.raises(WebhookForged):
        verify(asked.headers["X-Billing-Signature"], asked.body, [OLD], NOW)


async def test_without_a_secret_nothing_is_sent(
    fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    custom = Custom(fake.url, secrets=[], http=quick("gateway"))
    with pytest.raises(PlatformError, match="no secret"):
        await custom.create_checkout(purchase)

    assert fake.asked == []
    await custom.close()


def webhook(**changes: Any) -> bytes:
    fields = {
        "charge_id": "charge-1",
        "status": "active",
        "merchant_id": MERCHANT,
        "purchase_id": PURCHASE,
        **changes,
    }
    return json.dumps({name: value for name, value in fields.items() if value != ""}).encode()


def told(custom: Custom, body: bytes) -> PlatformEvent | None:
    return custom.read_webhook({"x-billing-signature": sign(SECRET, body, NOW)}, body, NOW)


@pytest.mark.parametrize("kind", ["", "updated"])
def test_a_webhook_tells_of_an_update_unless_it_says_otherwise(custom: Custom, kind: str) -> None:
    assert told(custom, webhook(kind=kind)) == PlatformEvent(
        kind=PlatformEventKind.UPDATED,
        charge_id="charge-1",
        status="active",
        merchant_id=MERCHANT,
        purchase_id=PURCHASE,
    )


@pytest.mark.parametrize("status", ["", "refunded"])
def test_a_refund_may_have_an_amount(custom: Custom, status: str) -> None:
    assert told(custom, webhook(kind="refunded", amount="9.99", status=status)) == PlatformEvent(
        kind=PlatformEventKind.REFUNDED,
        charge_id="charge-1",
        status="refunded",
        merchant_id=MERCHANT,
        purchase_id=PURCHASE,
        amount="9.99",
    )
    assert told(custom, webhook(kind="refunded", status=status, purchase_id=""))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        webhook(status=""),
        webhook(status=None),
        webhook(kind="deleted"),
        webhook(charge_id=None),
        webhook(charge_id=5),
        webhook(merchant_id=""),
        webhook(merchant_id="m1"),
        webhook(purchase_id="p1"),
        webhook(amount="-1"),
        webhook(amount="1e9"),
        webhook(amount=9.99),
        b'{"x":' * 5000,
    ],
    ids=lambda body: repr(body[:120]),
)
def test_a_signed_body_that_makes_no_sense_is_malformed(custom: Custom, body: bytes) -> None:
    with pytest.raises(WebhookMalformed) as raised:
        told(custom, body)

    assert MERCHANT not in str(raised.value)


def test_only_what_the_gateway_signed_lately_is_believed(custom: Custom) -> None:
    body = webhook()
    good = sign(SECRET, body, NOW)

    for name in ("X-Billing-Signature", "X-BILLING-SIGNATURE", "x-billing-signature"):
        assert custom.read_webhook({name: good}, body, NOW)
    assert custom.read_webhook({"X-Billing-Signature": sign(OLD, body, NOW)}, body, NOW)
    assert custom.read_webhook({"X-Billing-Signature": good}, body, NOW + timedelta(seconds=300))
    assert custom.read_webhook({"X-Billing-Signature": good}, body, NOW - timedelta(hours=1))
    with pytest.raises(WebhookForged):
        custom.read_webhook({"X-Billing-Signature": good}, body, NOW + timedelta(seconds=301))
    with pytest.raises(WebhookForged):
        custom.read_webhook({"X-Billing-Signature": sign("x" * 32, body, NOW)}, body, NOW)
    with pytest.raises(WebhookForged):
        custom.read_webhook({"X-Billing-Signature": good}, body + b" ", NOW)
    with pytest.raises(WebhookForged):
        custom.read_webhook({"Stripe-Signature": good}, body, NOW)
