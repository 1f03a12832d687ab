"""The stand-in: charges without an account, and links that cannot be made up."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from billing_stream.errors import PlatformError, WebhookForged
from billing_stream.platforms.base import CheckoutRequest, PlatformEvent, PlatformEventKind
from billing_stream.platforms.local import Local, LocalCheckout, read_token
from tests.platforms.conftest import MERCHANT, NOW, PURCHASE, request_for

SECRET = "internal-secret-0123456789abcdefgh"
PREFIX = "http://127.0.0.1:8000/dev/checkout/"


def token_in(url: str) -> str:
    assert url.startswith(PREFIX)
    return url.removeprefix(PREFIX)


async def test_a_link_holds_the_whole_checkout(purchase: CheckoutRequest) -> None:
    local = Local("http://127.0.0.1:8000/", SECRET, charges="charge/")

    opened = await local.create_checkout(purchase)

    assert re.fullmatch(r"charge/[0-9]{16}", opened.charge_id)
    assert read_token(token_in(opened.url), SECRET) == LocalCheckout(
        merchant_id=MERCHANT,
        purchase_id=PURCHASE,
        charge_id=opened.charge_id,
        title="500 credits",
        amount="39.99",
        currency="USD",
        credits=500,
        return_url="https://app.example/billing?done=1",
        cancel_url="https://app.example/billing?done=0",
    )
    await local.close()


async def test_every_charge_is_another_one(purchase: CheckoutRequest) -> None:
    local = Local("http://127.0.0.1:8000", SECRET)

    charges = {(await local.create_checkout(purchase)).charge_id for _ in range(20)}

    assert len(charges) == 20


async def test_a_link_is_good_for_24_hours(purchase: CheckoutRequest) -> None:
    now = datetime.now(UTC)
    young = Local("http://127.0.0.1:8000", SECRET, now=lambda: now - timedelta(hours=23.9))
    old = Local("http://127.0.0.1:8000", SECRET, now=lambda: now - timedelta(hours=24.1))

    assert read_token(token_in((await young.create_checkout(purchase)).url), SECRET)
    with pytest.raises(PlatformError, match="expired"):
        read_token(token_in((await old.create_checkout(purchase)).url), SECRET)


async def test_a_link_that_could_not_be_recorded_is_not_made() -> None:
    local = Local("http://127.0.0.1:8000", SECRET)

    with pytest.raises(PlatformError, match="too long"):
        await local.create_checkout(request_for(return_url="https://x/" + "y" * 2000))


# Not "in a while": this is made when tests are collected, which may be long before they run.
FAR = 4_102_444_800  # 2100
GOOD: dict[str, Any] = {
    "aud": "billing-stream/checkout",
    "exp": FAR,
    "merchant_id": MERCHANT,
    "purchase_id": PURCHASE,
    "charge_id": "c",
    "title": "t",
    "amount": "1.00",
    "currency": "USD",
    "credits": 1,
    "return_url": "https://x",
}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def test_the_good_token_of_these_tests_is_good() -> None:
    assert read_token(jwt.encode(GOOD, SECRET), SECRET).credits == 1


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "..",
        "a.b.c",
        jwt.encode(GOOD, "x" * 40),
        jwt.encode(GOOD, SECRET * 2, algorithm="HS512"),
        jwt.encode(GOOD, "", algorithm="none"),
        jwt.encode({**GOOD, "aud": "billing-stream/internal"}, SECRET),
        jwt.encode(without("aud"), SECRET),
        jwt.encode(without("exp"), SECRET),
        jwt.encode(without("charge_id"), SECRET),
        jwt.encode({**GOOD, "credits": "many"}, SECRET),
        jwt.encode({**GOOD, "exp": "soon"}, SECRET),
        jwt.encode(GOOD, SECRET)[:-2],
        "é.é.é",
    ],
)
def test_any_other_token_opens_nothing(token: str) -> None:
    with pytest.raises(PlatformError, match="this is not a checkout of this service"):
        read_token(token, SECRET)


def test_without_a_secret_for_them_webhooks_are_forged() -> None:
    with pytest.raises(WebhookForged):
        Local("http://x", SECRET).read_webhook({}, b"{}", NOW)


def test_webhooks_are_read_as_the_platform_does() -> None:
    told = PlatformEvent(kind=PlatformEventKind.UPDATED, charge_id="c", status="active")
    seen: list[Any] = []

    def read(headers: Mapping[str, str], body: bytes, now: datetime) -> PlatformEvent:
        seen.append((headers, body, now))
        return told

    assert Local("http://x", SECRET, read).read_webhook({"A": "b"}, b"body", NOW) is told
    assert seen == [({"A": "b"}, b"body", NOW)]
