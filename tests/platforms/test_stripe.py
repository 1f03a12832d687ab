"""Stripe: the session that is asked for, and every event of the table."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
import pytest_asyncio
import stripe as official

from billing_stream.errors import PlatformError, WebhookForged, WebhookMalformed
from billing_stream.platforms.base import (
    Checkout,
    CheckoutRequest,
    IgnoredWebhook,
    PlatformEvent,
    PlatformEventKind,
)
from billing_stream.platforms.money import from_minor
from billing_stream.platforms.stripe import Stripe
from tests.platforms.conftest import MERCHANT, NOW, PURCHASE, quick, request_for
from tests.platforms.fake import FakePlatform, Reply

KEY = "sk_test_51abc"
SECRET = "whsec_current"
OLD = "whsec_before"
PAGE = "https://checkout.stripe.com/c/pay/cs_test_1#fid"
HOUR = 3600
SESSION = Reply(body={"id": "cs_test_1", "object": "checkout.session", "url": PAGE})
OURS = {"merchant_id": MERCHANT, "purchase_id": PURCHASE}


@pytest_asyncio.fixture
async def stripe(fake: FakePlatform) -> AsyncIterator[Stripe]:
    made = new(fake)
    yield made
    await made.close()


def new(fake: FakePlatform, **options: Any) -> Stripe:
    """The adapter at `NOW`, the moment at which purchases of these tests were opened."""
    made = {"secrets": [SECRET, OLD], "http": quick("stripe"), "now": lambda: NOW, **options}
    return Stripe(KEY, api_url=f"{fake.url}/", **made)


async def test_a_session_is_asked_for_as_the_api_says(
    stripe: Stripe, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    fake.replies(SESSION)

    assert await stripe.create_checkout(purchase) == Checkout("cs_test_1", PAGE, test=True)

    (asked,) = fake.asked
    assert (asked.method, asked.path) == ("POST", "/v1/checkout/sessions")
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert asked.headers["Idempotency-Key"] == f"billing-stream/{PURCHASE}"
    assert asked.headers["Stripe-Version"] == official.api_version == "2026-10-28.endive"
    assert dict(parse_qsl(asked.body.decode(), strict_parsing=True)) == {
        "mode": "payment",
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "usd",
        "line_items[0][price_data][unit_amount]": "3999",
        "line_items[0][price_data][product_data][name]": "500 credits",
        "success_url": "https://app.example/billing?done=1",
        "cancel_url": "https://app.example/billing?done=0",
        "expires_at": str(int(NOW.timestamp()) + 24 * 3600 - 60),
        "adaptive_pricing[enabled]": "false",
        "client_reference_id": PURCHASE,
        "metadata[merchant_id]": MERCHANT,
        "metadata[purchase_id]": PURCHASE,
        "payment_intent_data[metadata][merchant_id]": MERCHANT,
        "payment_intent_data[metadata][purchase_id]": PURCHASE,
    }


@pytest.mark.parametrize(
    ("amount", "currency", "minor"), [("500", "JPY", "500"), ("1.5", "KWD", "1500")]
)
async def test_the_amount_is_in_the_minor_units_of_its_currency(
    stripe: Stripe, fake: FakePlatform, amount: str, currency: str, minor: str
) -> None:
    fake.replies(SESSION)
    await stripe.create_checkout(request_for(amount=amount, currency=currency))

    form = dict(parse_qsl(fake.asked[0].body.decode()))
    assert form["line_items[0][price_data][unit_amount]"] == minor
    assert form["line_items[0][price_data][currency]"] == currency.lower()


@pytest.mark.parametrize(
    ("expires_in", "asked_after", "ends_in"),
    [
        (2 * HOUR, 0, 2 * HOUR),
        (2 * HOUR, HOUR, 2 * HOUR),
        (90, 0, 31 * 60),
        (2 * HOUR, 2 * HOUR, 2 * HOUR + 31 * 60),
        (24 * HOUR, 0, 24 * HOUR - 60),
        (24 * HOUR, HOUR, 24 * HOUR - 60),
        (14 * 24 * HOUR, 0, 24 * HOUR - 60),
        # A merchant whose test clock was moved forward by far.
        (24 * HOUR, -300 * 24 * HOUR, -299 * 24 * HOUR - 60),
    ],
)
async def test_a_session_ends_with_its_purchase_within_what_stripe_takes(
    fake: FakePlatform, expires_in: int, asked_after: int, ends_in: int
) -> None:
    now = NOW + timedelta(seconds=asked_after)
    stripe = new(fake, now=lambda: now)
    fake.replies(SESSION)
    await stripe.create_checkout(request_for(expires_at=NOW + timedelta(seconds=expires_in)))
    await stripe.close()

    form = dict(parse_qsl(fake.asked[0].body.decode()))
    assert int(form["expires_at"]) == int(NOW.timestamp()) + ends_in


async def test_prices_are_only_adapted_where_that_is_set(fake: FakePlatform) -> None:
    stripe = new(fake, adaptive_pricing=True)
    fake.replies(SESSION)
    await stripe.create_checkout(request_for())
    await stripe.close()

    form = dict(parse_qsl(fake.asked[0].body.decode()))
    assert form["adaptive_pricing[enabled]"] == "true"


async def test_an_amount_that_cannot_be_charged_is_not_asked_for(
    stripe: Stripe, fake: FakePlatform
) -> None:
    with pytest.raises(PlatformError):
        await stripe.create_checkout(request_for(amount="9.999"))

    assert fake.asked == []


async def test_a_title_cannot_add_fields(stripe: Stripe, fake: FakePlatform) -> None:
    title = "x&line_items[0][price_data][unit_amount]=1 ü"
    fake.replies(SESSION)
    await stripe.create_checkout(request_for(title=title))

    form = dict(parse_qsl(fake.asked[0].body.decode()))
    assert form["line_items[0][price_data][unit_amount]"] == "3999"
    assert form["line_items[0][price_data][product_data][name]"] == title


async def test_while_stripe_works_on_the_attempt_before_it_is_asked_again(
    stripe: Stripe, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    error = {"error": {"message": "in use", "code": "idempotency_key_in_use"}}
    fake.replies(Reply(status=409, body=error), SESSION)

    assert await stripe.create_checkout(purchase) == Checkout("cs_test_1", PAGE, test=True)


async def test_a_key_that_stripe_knows_with_other_parameters_is_replaced(
    stripe: Stripe, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    error = {"error": {"message": "same parameters", "type": "idempotency_error"}}
    fake.replies(Reply(status=400, body=error), SESSION)

    assert await stripe.create_checkout(purchase) == Checkout("cs_test_1", PAGE, test=True)
    first, second = [one.headers["Idempotency-Key"] for one in fake.asked]
    assert first == f"billing-stream/{PURCHASE}"
    assert second.startswith(f"{first}/")


async def test_a_session_without_a_page_is_no_checkout(
    stripe: Stripe, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    fake.replies(Reply(body={"id": "cs_test_1", "url": None}))

    with pytest.raises(PlatformError, match="not understood"):
        await stripe.create_checkout(purchase)


def event(type_: str, object_: Any, **changes: Any) -> bytes:
    body = {
        "id": "evt_1",
        "object": "event",
        "type": type_,
        "created": 1795521600,
        "livemode": False,
        "data": {"object": object_},
        **changes,
    }
    return json.dumps(body).encode()


def session(**changes: Any) -> dict[str, Any]:
    return {
        "id": "cs_test_1",
        "object": "checkout.session",
        "payment_status": "paid",
        "payment_intent": "pi_1",
        "client_reference_id": PURCHASE,
        "metadata": OURS,
        **changes,
    }


def charge(**changes: Any) -> dict[str, Any]:
    return {
        "id": "ch_1",
        "object": "charge",
        "amount": 3999,
        "amount_refunded": 1000,
        "currency": "usd",
        "payment_intent": "pi_1",
        "metadata": OURS,
        **changes,
    }


def signed(body: bytes, secret: str = SECRET, at: int = 0) -> dict[str, str]:
    moment = at or int(NOW.timestamp())
    make = official.WebhookSignature.generate_signature_header
    return {"stripe-signature": make(body.decode(), secret, moment)}


def told(stripe: Stripe, body: bytes) -> PlatformEvent | IgnoredWebhook:
    return stripe.read_webhook(signed(body), body, NOW)


def event_of(stripe: Stripe, body: bytes) -> PlatformEvent:
    found = told(stripe, body)
    assert isinstance(found, PlatformEvent)
    return found


@pytest.mark.parametrize(
    ("type_", "payment_status", "status"),
    [
        ("checkout.session.completed", "paid", "active"),
        ("checkout.session.completed", "no_payment_required", "active"),
        ("checkout.session.completed", "unpaid", "pending"),
        ("checkout.session.async_payment_succeeded", "paid", "active"),
        ("checkout.session.async_payment_failed", "unpaid", "declined"),
        ("checkout.session.expired", "unpaid", "expired"),
    ],
)
def test_what_happened_to_a_session(
    stripe: Stripe, type_: str, payment_status: str, status: str
) -> None:
    assert told(stripe, event(type_, session(payment_status=payment_status))) == PlatformEvent(
        kind=PlatformEventKind.UPDATED,
        charge_id="cs_test_1",
        status=status,
        merchant_id=MERCHANT,
        purchase_id=PURCHASE,
        delivery_id="evt_1",
    )


@pytest.mark.parametrize(
    ("minor", "currency", "amount"),
    [(1000, "usd", "10.00"), (3999, "usd", "39.99"), (500, "jpy", "500"), (1500, "kwd", "1.500")],
)
def test_a_refund_tells_all_that_was_paid_back_so_far(
    stripe: Stripe, minor: int, currency: str, amount: str
) -> None:
    body = event("charge.refunded", charge(amount_refunded=minor, currency=currency))

    assert told(stripe, body) == PlatformEvent(
        kind=PlatformEventKind.REFUNDED,
        charge_id="pi_1",
        status="refunded",
        merchant_id=MERCHANT,
        purchase_id=PURCHASE,
        amount=amount,
        currency=currency.upper(),
        charge_amount=from_minor(3999, currency),
        delivery_id="evt_1",
    )


def returned(**fields: Any) -> dict[str, Any]:
    """A dispute or refund, as Stripe has it: without the metadata of its payment."""
    about = {"id": "dp_1", "charge": "ch_1", "payment_intent": "pi_1", "metadata": {}}
    return {**about, "amount": 999, "currency": "usd", "status": "needs_response", **fields}


@pytest.mark.parametrize(
    ("type_", "status", "wanted"),
    [
        ("charge.dispute.funds_withdrawn", "needs_response", "withdrawn"),
        ("charge.dispute.funds_reinstated", "won", "reinstated"),
        ("charge.dispute.closed", "lost", "lost"),
        ("charge.dispute.closed", "won", "won"),
    ],
)
def test_a_dispute_is_told_once_its_money_moves(
    stripe: Stripe, type_: str, status: str, wanted: str
) -> None:
    found = event_of(stripe, event(type_, returned(status=status)))

    assert found == PlatformEvent(
        kind=PlatformEventKind.DISPUTED,
        charge_id="pi_1",
        status=wanted,
        amount="9.99",
        currency="USD",
        dispute_id="dp_1",
        delivery_id="evt_1",
    )


@pytest.mark.parametrize(
    ("type_", "status"),
    [
        ("charge.dispute.created", "needs_response"),
        ("charge.dispute.created", "warning_needs_response"),
        ("charge.dispute.updated", "under_review"),
        ("charge.dispute.closed", "warning_closed"),
        ("refund.updated", "succeeded"),
        ("charge.refund.updated", "pending"),
    ],
)
def test_inquiries_and_refunds_under_way_change_nothing(
    stripe: Stripe, type_: str, status: str
) -> None:
    assert told(stripe, event(type_, returned(status=status))) == IgnoredWebhook(type_)


@pytest.mark.parametrize(
    ("type_", "status"),
    [
        ("refund.failed", "failed"),
        ("refund.updated", "failed"),
        ("charge.refund.updated", "canceled"),
    ],
)
def test_a_refund_that_failed_names_itself(stripe: Stripe, type_: str, status: str) -> None:
    found = event_of(stripe, event(type_, returned(id="re_1", status=status)))

    assert (found.kind, found.refund_id, found.amount) == ("refund_failed", "re_1", "9.99")


@pytest.mark.parametrize(
    ("fields", "paid"),
    [
        ({"amount_total": 999, "currency": "usd"}, ("9.99", "USD")),
        ({"amount_total": 1, "currency": "usd"}, ("0.01", "USD")),
        ({"amount_total": 999, "currency": "jpy"}, ("999", "JPY")),
        ({"amount_total": 0, "currency": "usd"}, ("0.00", "USD")),
        ({"amount_total": None}, (None, None)),
        ({"currency": "usd"}, (None, None)),
        (
            {
                "amount_total": 1500,
                "currency": "jpy",
                "currency_conversion": {"amount_total": 999, "source_currency": "usd"},
            },
            ("9.99", "USD"),
        ),
    ],
)
def test_what_was_paid_is_told_in_the_own_currency(
    stripe: Stripe, fields: dict[str, Any], paid: tuple[str | None, str | None]
) -> None:
    body = event("checkout.session.completed", session(**fields))

    assert (event_of(stripe, body).amount, event_of(stripe, body).currency) == paid


async def test_the_payment_says_whose_dispute_it_is(stripe: Stripe, fake: FakePlatform) -> None:
    about = PlatformEvent(
        kind=PlatformEventKind.DISPUTED,
        charge_id="pi_1",
        status="withdrawn",
        amount="3.00",
        currency="USD",
        dispute_id="dp_1",
    )
    metadata = {"merchant_id": MERCHANT, "purchase_id": PURCHASE}
    payment = {"id": "pi_1", "amount": 999, "currency": "usd", "metadata": metadata}
    fake.replies(Reply(body=payment), Reply(body={**payment, "metadata": {}}), Reply(status=404))

    found = await stripe.find_owner(about)
    others = [await stripe.find_owner(about) for _ in range(2)]

    assert isinstance(found, PlatformEvent)
    assert (found.merchant_id, found.purchase_id) == (MERCHANT, PURCHASE)
    assert found.charge_amount == "9.99"
    assert others == [IgnoredWebhook("disputed")] * 2
    assert fake.asked[0].path == "/v1/payment_intents/pi_1"


def test_a_charge_without_a_payment_intent_has_its_own_id(stripe: Stripe) -> None:
    refund = event_of(stripe, event("charge.refunded", charge(payment_intent=None)))

    assert refund.charge_id == "ch_1"


def test_the_purchase_is_known_by_the_reference_too(stripe: Stripe) -> None:
    body = event("checkout.session.completed", session(metadata={"merchant_id": MERCHANT}))
    found = event_of(stripe, body)

    assert found.purchase_id == PURCHASE


def test_test_mode_and_live_mode_are_read_alike(stripe: Stripe) -> None:
    for livemode in (True, False):
        assert told(stripe, event("checkout.session.expired", session(), livemode=livemode))


@pytest.mark.parametrize(
    "type_",
    [
        "",
        "payment_intent.succeeded",
        "refund.created",
        "refund.updated",
        "checkout.session.completed2",
        "customer.created",
    ],
)
def test_other_events_are_nothing_of_ours(stripe: Stripe, type_: str) -> None:
    assert told(stripe, event(type_, session())) == IgnoredWebhook(type_)
    assert told(stripe, event(type_, {"metadata": 5})) == IgnoredWebhook(type_)


@pytest.mark.parametrize(
    "body",
    [
        {"id": "evt_1", "object": "v2.core.event", "type": "v2.core.account.created"},
        {"id": "evt_1", "type": "v1.billing.meter.error_report_triggered", "data": None},
        {"type": "x", "data": {"object": 5}},
        {"type": ""},
        {"type": 5},
        {},
    ],
)
def test_types_are_read_before_anything_else(stripe: Stripe, body: dict[str, Any]) -> None:
    type_ = body.get("type")
    wanted = IgnoredWebhook(type_ if isinstance(type_, str) else "")

    assert told(stripe, json.dumps(body).encode()) == wanted


@pytest.mark.parametrize("metadata", [None, {}, {"purchase_id": PURCHASE}, {"merchant_id": "m7"}])
def test_what_another_system_sold_is_ignored(stripe: Stripe, metadata: Any) -> None:
    completed, refunded = "checkout.session.completed", "charge.refunded"
    for found in (session(metadata=metadata), session(metadata=metadata, payment_status=5)):
        assert told(stripe, event(completed, found)) == IgnoredWebhook(completed)
    assert told(stripe, event(refunded, charge(metadata=metadata))) == IgnoredWebhook(refunded)


def test_a_reference_that_is_no_purchase_of_ours_is_not_told(stripe: Stripe) -> None:
    body = event(
        "checkout.session.completed",
        session(metadata={"merchant_id": MERCHANT}, client_reference_id="order 7"),
    )
    found = event_of(stripe, body)

    assert found.purchase_id is None


@pytest.mark.parametrize(
    "body",
    [
        event("checkout.session.completed", {}),
        event("checkout.session.completed", "cs_1"),
        event("checkout.session.completed", session(payment_status=None)),
        event("checkout.session.completed", session(id=None)),
        event("checkout.session.completed", session(metadata={"merchant_id": 5})),
        event("charge.refunded", charge(amount_refunded="5")),
        event("charge.refunded", charge(amount_refunded=-5)),
        event("charge.refunded", charge(amount_refunded=10**12)),
        event("charge.refunded", charge(currency="")),
        event("charge.refunded", charge(), data=None),
        b'{"id":"e","type":"charge.refunded","data":{"object":' + b"[" * 900 + b"]" * 900 + b"}}",
    ],
    ids=lambda body: repr(body[-60:]),
)
def test_a_signed_event_with_invalid_fields_is_malformed(stripe: Stripe, body: bytes) -> None:
    with pytest.raises(WebhookMalformed) as raised:
        told(stripe, body)

    assert raised.value.kind in list(PlatformEventKind)
    assert str(raised.value).startswith("`data")


def test_an_invalid_event_names_field_rule_kind_and_merchant(stripe: Stripe) -> None:
    with pytest.raises(WebhookMalformed) as raised:
        told(stripe, event("charge.refunded", charge(amount_refunded="5")))

    found = raised.value
    assert str(found) == "`data.object.amount_refunded` must be a whole number, not text"
    assert (found.kind, found.merchant_id, found.delivery_id) == ("refunded", MERCHANT, "evt_1")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"5", b'{"a": "\xff"}', b'{"x":' * 5000]
)
def test_a_signed_text_that_is_not_an_object_is_forged(stripe: Stripe, body: bytes) -> None:
    moment = int(NOW.timestamp())
    digest = hmac.new(SECRET.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    with pytest.raises(WebhookForged, match="not a JSON object"):
        stripe.read_webhook({"Stripe-Signature": f"t={moment},v1={digest}"}, body, NOW)


def test_only_what_stripe_signed_lately_is_believed(stripe: Stripe) -> None:
    body = event("checkout.session.completed", session())
    at = int(NOW.timestamp())

    assert stripe.read_webhook(signed(body, OLD), body, NOW)
    assert stripe.read_webhook(signed(body, at=at - 300), body, NOW)
    assert stripe.read_webhook(signed(body, at=at + 3600), body, NOW)
    for headers in (
        {},
        {"X-Signature": "x"},
        signed(body, "whsec_other"),
        signed(body + b" "),
        signed(body, at=at - 301),
    ):
        with pytest.raises(WebhookForged):
            stripe.read_webhook(headers, body, NOW)


@pytest.mark.parametrize("name", ["Stripe-Signature", "STRIPE-SIGNATURE", "stripe-signature"])
def test_the_header_is_read_in_any_letter_case(stripe: Stripe, name: str) -> None:
    body = event("checkout.session.completed", session())

    assert stripe.read_webhook({name: signed(body)["stripe-signature"]}, body, NOW)


async def test_without_a_secret_every_webhook_is_forged() -> None:
    stripe = Stripe(KEY, api_url="http://x", secrets=[])
    body = event("checkout.session.completed", session())

    for secret in ("", SECRET):
        with pytest.raises(WebhookForged):
            stripe.read_webhook(signed(body, secret), body, NOW)
    await stripe.close()
