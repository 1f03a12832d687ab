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
        "cancel_url": "https://app.example/billing?done=0",
        "created_at": "2026-11-24T12:00:00Z",
        "expires_at": "2026-11-25T12:00:00Z",
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


def told(custom: Custom, body: bytes) -> PlatformEvent:
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
        webhook(amount="1e19"),
        webhook(amount="9.9999999"),
        webhook(amount="NaN"),
        webhook(amount=True),
        webhook(amount=[]),
    ],
    ids=lambda body: repr(body[:120]),
)
def test_a_signed_body_that_makes_no_sense_is_malformed(custom: Custom, body: bytes) -> None:
    with pytest.raises(WebhookMalformed) as raised:
        told(custom, body)

    assert MERCHANT not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"charge_id": 5}, "`charge_id` must be text, not a whole number"),
        ({"charge_id": ""}, "`charge_id` is missing"),
        ({"merchant_id": "m1"}, "`merchant_id` must be a UUID"),
        ({"purchase_id": 1.5}, "`purchase_id` must be text or null, not a decimal number"),
        ({"status": ""}, "`status` is missing"),
        ({"kind": "deleted"}, "`kind` is not one of the known values"),
        ({"amount": "x"}, "`amount` must be a decimal number"),
        (
            {"amount": "-1"},
            "`amount` must be a sum of money such as 9.99: without a sign, "
            "up to 12 digits and 6 decimals",
        ),
    ],
)
def test_the_reason_names_the_field_and_the_rule(
    custom: Custom, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(WebhookMalformed) as raised:
        told(custom, webhook(**change))

    assert str(raised.value) == reason
    assert raised.value.merchant_id == (None if "merchant_id" in change else MERCHANT)
    assert raised.value.kind == (None if "kind" in change else "updated")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ('"9.99"', "9.99"),
        ("9.99", "9.99"),
        ("10", "10"),
        ('"9.99000000"', "9.99"),
        ("9.99000000", "9.99"),
        ("0.1", "0.1"),
        ("1e2", "100"),
        ('"10.00000000"', "10"),
    ],
)
def test_amounts_are_read_as_numbers_and_as_text(custom: Custom, given: str, kept: str) -> None:
    body = webhook(kind="refunded", amount="AMOUNT").replace(b'"AMOUNT"', given.encode())

    assert told(custom, body).amount == kept


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"x":' * 5000])
def test_a_signed_text_that_is_not_an_object_is_forged(custom: Custom, body: bytes) -> None:
    with pytest.raises(WebhookForged, match="not a JSON object"):
        told(custom, body)


async def test_our_own_request_to_the_gateway_is_not_a_webhook(
    custom: Custom, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    fake.replies(Reply(status=201, body=OPENED))
    await custom.create_checkout(purchase)
    (asked,) = fake.asked

    with pytest.raises(WebhookForged, match="request to the gateway"):
        custom.read_webhook({"X-Billing-Signature": sign(SECRET, asked.body, NOW)}, asked.body, NOW)


def test_a_byte_order_mark_is_ignored(custom: Custom) -> None:
    assert told(custom, b"\xef\xbb\xbf" + webhook()) == told(custom, webhook())


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
