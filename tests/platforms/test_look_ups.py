"""What each platform answers about a charge, and the webhook that this stands for."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from billing_stream.errors import PlatformError, TemporaryFailure
from billing_stream.platforms.base import ChargeQuery, FoundCharge, Platform
from billing_stream.platforms.custom import SIGNATURE, Custom
from billing_stream.platforms.local import Local
from billing_stream.platforms.platform_http import Http, TryLater
from billing_stream.platforms.shopify import Shopify
from billing_stream.platforms.signatures import verify
from billing_stream.platforms.stripe import Stripe
from billing_stream.platforms.tokens import EnvironmentTokens
from tests.platforms.conftest import MERCHANT, PURCHASE, SHOP
from tests.platforms.fake import FakePlatform, Reply

SECRET = "secret-of-the-gateway-0123456789ab"
CHARGE = "cs_test/1?x"
QUERY = ChargeQuery(
    merchant_id=MERCHANT, purchase_id=PURCHASE, charge_id=CHARGE, shop_domain=SHOP.upper()
)
OURS = {"merchant_id": MERCHANT, "purchase_id": PURCHASE}


def stripe(url: str, http: Http) -> Platform:
    return Stripe("sk_test_1", api_url=url, secrets=[SECRET], http=http)


def shopify(url: str, http: Http) -> Platform:
    tokens = EnvironmentTokens(json.dumps({SHOP: "token"}))
    return Shopify(
        tokens, api_url=url, api_version="2026-10", test=True, secrets=[SECRET], http=http
    )


def custom(url: str, http: Http) -> Platform:
    lookup = f"{url}/charges/{{charge_id}}?v=1"
    return Custom(f"{url}/checkouts", secrets=[SECRET], lookup_url=lookup, http=http)


def session(status: str, payment_status: str) -> Any:
    return {
        "id": CHARGE,
        "object": "checkout.session",
        "status": status,
        "payment_status": payment_status,
        "amount_total": 3999,
        "currency": "usd",
        "client_reference_id": PURCHASE,
        "metadata": OURS,
        "payment_intent": "pi_1",
    }


def node(status: str) -> Any:
    price = {"amount": "39.99", "currencyCode": "USD"}
    return {"data": {"node": {"id": CHARGE, "status": status, "price": price}}}


def told(status: str) -> Any:
    return {"charge_id": CHARGE, "merchant_id": MERCHANT, "status": status, "amount": "39.99"}


NEW: dict[str, Callable[[str, Http], Platform]] = {
    "stripe": stripe,
    "shopify": shopify,
    "custom": custom,
}


async def find(name: str, fake: FakePlatform, slept: list[float] | None = None) -> Any:
    """What the adapter finds; it does not sleep, but says for how long it would."""

    async def sleep(seconds: float) -> None:
        if slept is not None:
            slept.append(seconds)

    platform = NEW[name](fake.url, Http(name, sleep=sleep))
    assert platform.looks_up
    try:
        return await platform.find_charge(QUERY)
    finally:
        await platform.close()


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("stripe", session("complete", "paid"), "active"),
        ("stripe", session("complete", "no_payment_required"), "active"),
        ("stripe", session("expired", "unpaid"), "expired"),
        ("stripe", session("open", "unpaid"), None),
        ("stripe", session("complete", "unpaid"), None),
        ("shopify", node("ACTIVE"), "ACTIVE"),
        ("shopify", node("ACCEPTED"), "ACCEPTED"),
        ("shopify", node("DECLINED"), "DECLINED"),
        ("shopify", node("EXPIRED"), "EXPIRED"),
        ("shopify", node("PENDING"), None),
        ("shopify", node("A_NEW_WORD"), None),
        ("custom", told("active"), "active"),
        ("custom", told("declined"), "declined"),
        ("custom", told("pending"), None),
    ],
)
async def test_a_charge_is_found_as_its_webhook_would_report_it(
    fake: FakePlatform, name: str, body: Any, status: str | None
) -> None:
    fake.replies(Reply(body=body))

    found = await find(name, fake)

    assert isinstance(found, FoundCharge)
    assert (found.event.status if found.event else None) == status
    assert found.paid == (status in ("active", "ACTIVE", "ACCEPTED"))
    assert found.amount == "39.99"
    if found.event is not None:
        assert found.event.charge_id == CHARGE
        assert found.event.merchant_id in (None, MERCHANT)


async def test_a_session_paid_in_another_currency_is_compared_by_what_was_asked(
    fake: FakePlatform,
) -> None:
    asked = {"amount_total": 3999, "source_currency": "usd"}
    paid = {"amount_total": 3699, "currency": "eur", "currency_conversion": asked}
    fake.replies(Reply(body=session("complete", "paid") | paid))

    found = await find("stripe", fake)

    assert found is not None
    assert (found.amount, found.currency) == ("39.99", "USD")


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("stripe", Reply(status=404, body={"error": {"message": "No such session"}})),
        ("stripe", Reply(body={**session("complete", "paid"), "metadata": {}})),
        ("shopify", Reply(body={"data": {"node": None}})),
        ("shopify", Reply(body={"data": {"node": {}}})),
        ("shopify", Reply(body={"data": {"node": {"id": "another", "status": "ACTIVE"}}})),
        ("custom", Reply(status=404)),
    ],
)
async def test_a_charge_that_the_platform_does_not_know_is_none(
    fake: FakePlatform, name: str, reply: Reply
) -> None:
    fake.replies(reply)

    assert await find(name, fake) is None


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"<html>", b'{"data": 1, "status": 2}'])
async def test_an_answer_of_another_form_is_an_error_without_its_text(
    fake: FakePlatform, name: str, body: bytes
) -> None:
    fake.replies(Reply(body=body))

    with pytest.raises(PlatformError) as raised:
        await find(name, fake)

    assert "not understood" in str(raised.value)


async def test_each_request_is_as_documented(fake: FakePlatform) -> None:
    fake.replies(Reply(body=session("open", "unpaid")))
    await find("stripe", fake)
    fake.replies(Reply(body=node("PENDING")))
    await find("shopify", fake)
    fake.replies(Reply(body=told("pending")))
    await find("custom", fake)

    of_stripe, of_shopify, of_gateway = fake.asked
    assert (of_stripe.method, of_stripe.path) == ("GET", "/v1/checkout/sessions/cs_test%2F1%3Fx")
    assert of_stripe.headers["Authorization"] == "Bearer sk_test_1"
    assert "Idempotency-Key" not in of_stripe.headers
    assert of_shopify.json["variables"] == {"id": CHARGE}
    assert of_shopify.headers["X-Shopify-Access-Token"] == "token"
    assert (of_gateway.method, of_gateway.path) == ("GET", "/charges/cs_test%2F1%3Fx?v=1")
    signed = of_gateway.path.encode()
    verify(of_gateway.headers[SIGNATURE], signed, [SECRET], datetime.now(UTC))


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("after", ["2.0", "2", "20", "date"])
async def test_retry_after_is_obeyed_in_every_form(
    fake: FakePlatform, name: str, after: str
) -> None:
    good = {"stripe": session("open", "unpaid"), "shopify": node("PENDING"), "custom": told("open")}
    header = after
    if after == "date":
        header = format_datetime(datetime.now(UTC) + timedelta(seconds=21), usegmt=True)
    fake.replies(Reply(status=429, headers={"Retry-After": header}), Reply(body=good[name]))
    slept: list[float] = []

    assert await find(name, fake, slept) is not None

    (waited,) = slept
    assert waited == pytest.approx(20 if after == "date" else float(after), abs=1)


@pytest.mark.parametrize("name", NEW)
async def test_a_platform_busy_for_longer_says_for_how_long(fake: FakePlatform, name: str) -> None:
    fake.replies(Reply(status=429, headers={"Retry-After": "600"}))

    with pytest.raises(TryLater) as raised:
        await find(name, fake)

    assert raised.value.after_seconds == 600
    assert len(fake.asked) == 1


@pytest.mark.parametrize("name", NEW)
async def test_a_fault_that_stays_is_a_temporary_failure(fake: FakePlatform, name: str) -> None:
    fake.replies(Reply(status=500))

    with pytest.raises(TemporaryFailure):
        await find(name, fake)

    assert len(fake.asked) == 4


async def test_without_an_address_a_gateway_is_not_asked(fake: FakePlatform) -> None:
    gateway = Custom(fake.url, secrets=[SECRET])
    local = Local(fake.url, SECRET)

    assert (gateway.looks_up, local.looks_up) == (False, False)
    assert await gateway.find_charge(QUERY) is None
    assert await local.find_charge(QUERY) is None
    assert fake.asked == []
    await gateway.close()
