"""Shopify: what is sent, whose token goes where, and which webhooks are believed."""

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.errors import (
    CheckoutRefused,
    PlatformError,
    TemporaryFailure,
    WebhookForged,
    WebhookMalformed,
)
from billing_stream.platforms.base import (
    Checkout,
    CheckoutRequest,
    IgnoredWebhook,
    PlatformEvent,
    PlatformEventKind,
    ShopEvent,
    ShopEventKind,
)
from billing_stream.platforms.platform_http import Http, Limits
from billing_stream.platforms.shopify import Shopify
from tests.platforms.conftest import NOW, SHOP, quick, request_for
from tests.platforms.fake import FakePlatform, Reply

SECRET = "shpss_the_secret_of_the_app"
OLD = "shpss_the_secret_before"
CHARGE = "gid://shopify/AppPurchaseOneTime/2628616364"
PAGE = f"https://{SHOP}/admin/charges/1/confirm?signature=x"


class Tokens:
    """Gives its tokens in turn: the next one once the last was forgotten."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.asked: list[str] = []
        self.closed = False

    async def token_of(self, shop: str) -> str:
        self.asked.append(shop)
        if not self.tokens:
            raise PlatformError("no access token is known for this shop")
        return self.tokens[0]

    def shops(self) -> list[str]:
        return [SHOP]

    def forget(self, shop: str) -> None:
        self.tokens.pop(0)

    async def close(self) -> None:
        self.closed = True


@pytest_asyncio.fixture
async def tokens() -> AsyncIterator[Tokens]:
    yield Tokens("first", "second", "third")


def new(tokens: Tokens, url: str, *, test: bool = True, http: Http | None = None) -> Shopify:
    return Shopify(
        tokens,
        api_url=url,
        api_version="2026-10",
        test=test,
        secrets=[SECRET, OLD],
        http=http or quick("shopify"),
    )


@pytest_asyncio.fixture
async def shopify(tokens: Tokens, fake: FakePlatform) -> AsyncIterator[Shopify]:
    made = new(tokens, f"{fake.url}/{{shop}}/")
    yield made
    await made.close()


def said(**changes: Any) -> Reply:
    created = {
        "appPurchaseOneTime": {"id": CHARGE},
        "confirmationUrl": PAGE,
        "userErrors": [],
        **changes,
    }
    return Reply(body={"data": {"appPurchaseOneTimeCreate": created}, "extensions": {"cost": {}}})


async def error_text(shopify: Shopify, purchase: CheckoutRequest) -> str:
    with pytest.raises(PlatformError) as raised:
        await shopify.create_checkout(purchase)
    return str(raised.value)


async def test_a_one_time_purchase_is_asked_for_in_the_shop(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    fake.replies(said())

    assert await shopify.create_checkout(purchase) == Checkout(CHARGE, PAGE, test=True)

    (asked,) = fake.asked
    assert asked.method == "POST"
    assert asked.path == f"/{SHOP}/admin/api/2026-10/graphql.json"
    assert asked.headers["X-Shopify-Access-Token"] == "first"
    assert asked.headers["Content-Type"] == "application/json"
    assert "appPurchaseOneTimeCreate(" in asked.json["query"]
    assert "recurring" not in asked.json["query"].lower()
    assert asked.json["variables"] == {
        "name": "500 credits",
        "price": {"amount": "39.99", "currencyCode": "USD"},
        "returnUrl": "https://app.example/billing?done=1",
        "test": True,
    }


async def test_outside_of_tests_the_purchase_is_real(
    tokens: Tokens, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    shopify = new(tokens, fake.url, test=False)
    fake.replies(said())
    await shopify.create_checkout(purchase)
    await shopify.close()

    assert fake.asked[0].json["variables"]["test"] is False
    assert tokens.closed


async def test_what_a_merchant_writes_cannot_change_the_query(
    shopify: Shopify, fake: FakePlatform
) -> None:
    fake.replies(said())
    await shopify.create_checkout(request_for(title='") { id } evil("'))
    await shopify.create_checkout(request_for())

    assert fake.asked[0].json["query"] == fake.asked[1].json["query"]


async def test_user_errors_are_passed_on(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    errors = [
        {"field": ["price"], "message": "Price must be\nat least 0.50"},
        {"field": None, "message": "Shop is frozen"},
    ]
    fake.replies(said(appPurchaseOneTime=None, confirmationUrl=None, userErrors=errors))

    text = await error_text(shopify, purchase)

    assert text == "shopify refuses the checkout: Price must be at least 0.50; Shop is frozen"
    assert len(fake.asked) == 1


async def test_user_errors_count_even_beside_a_purchase(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    fake.replies(said(userErrors=[{"message": "x" * 300}]))

    text = await error_text(shopify, purchase)

    assert text == "shopify refuses the checkout: " + "x" * 199 + "…"


@pytest.mark.parametrize("missing", ["appPurchaseOneTime", "confirmationUrl"])
async def test_half_an_answer_is_no_checkout(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest, missing: str
) -> None:
    fake.replies(said(**{missing: None}))

    assert await error_text(shopify, purchase) == "shopify gave an answer that is not understood"


async def test_errors_of_the_query_are_passed_on(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    error = {"message": "Access denied", "extensions": {"code": "ACCESS_DENIED"}, "path": ["x"]}
    fake.replies(Reply(body={"errors": [error, {"message": "y", "extensions": None}]}))

    text = await error_text(shopify, purchase)
    assert text == "shopify refuses our credentials: Access denied; y"
    assert len(fake.asked) == 1


FORMS: list[tuple[Any, str]] = [
    ("Payment required", "Payment required"),
    (["a", "b\n c"], "a; b c"),
    ([{"message": "a"}, {"message": "b", "extensions": 5}], "a; b"),
    ({"name": ["is blank", "is odd"], "base": "no"}, "name: is blank; name: is odd; base: no"),
    ({"message": "a", "code": "x"}, "a"),
    ({"a": {"b": {"c": {"d": "too deep"}}}}, "HTTP 422"),
    (["x"] * 1000, "x; x; x; x; x"),
    ([], "HTTP 422"),
    (5, "HTTP 422"),
    (None, "HTTP 422"),
]


@pytest.mark.parametrize(("errors", "text"), FORMS)
async def test_errors_are_read_in_every_form(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest, errors: Any, text: str
) -> None:
    for status in (402, 404, 422, 423, 430):
        fake.replies(Reply(status=status, body={"errors": errors}))
        with pytest.raises(CheckoutRefused) as raised:
            await shopify.create_checkout(purchase)
        said = text.replace("422", str(status))
        assert str(raised.value) == f"shopify refuses the checkout: {said}"


async def test_errors_with_status_200_are_read_in_every_form(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    for errors, text in FORMS[:5]:
        for reply in (Reply(body={"errors": errors}), said(userErrors=errors)):
            fake.replies(reply)
            told = await error_text(shopify, purchase)
            assert told == f"shopify refuses the checkout: {text}"
    fake.replies(said(userErrors=[{}]))
    told = await error_text(shopify, purchase)
    assert told == "shopify refuses the checkout: no reason is given"


async def test_a_shop_that_gave_no_rights_is_said_to_be_so(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    fake.replies(Reply(status=403, body={"errors": "[API] The app needs write_purchases"}))

    told = await error_text(shopify, purchase)
    assert told == "shopify refuses our credentials: [API] The app needs write_purchases"


@pytest.mark.parametrize("code", ["INTERNAL_SERVER_ERROR", "TIMEOUT"])
async def test_a_fault_told_with_status_200_is_a_temporary_one(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest, code: str
) -> None:
    fault = Reply(body={"errors": [{"message": "Internal", "extensions": {"code": code}}]})
    fake.replies(fault, said())
    assert await shopify.create_checkout(purchase) == Checkout(CHARGE, PAGE, test=True)

    fake.replies(fault)
    with pytest.raises(TemporaryFailure):
        await shopify.create_checkout(purchase)


async def test_a_throttled_query_is_asked_again(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    throttled = Reply(
        body={"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]}
    )
    fake.replies(throttled, said())
    assert await shopify.create_checkout(purchase) == Checkout(CHARGE, PAGE, test=True)

    fake.replies(throttled)
    assert await error_text(shopify, purchase) == "shopify is busy"
    assert len(fake.asked) == 2 + 3


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_looked_up_again(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest, status: int
) -> None:
    fake.replies(Reply(status=status, body={"errors": "[API] Invalid API key"}), said())

    assert await shopify.create_checkout(purchase) == Checkout(CHARGE, PAGE, test=True)
    used = [one.headers["X-Shopify-Access-Token"] for one in fake.asked]
    assert used == ["first", "second"]


async def test_a_token_is_looked_up_again_only_once(
    shopify: Shopify, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    fake.replies(Reply(status=401))

    assert await error_text(shopify, purchase) == "shopify refuses our credentials"
    assert len(fake.asked) == 2


async def test_a_shop_without_a_token_is_not_asked(
    fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    shopify = new(Tokens(), fake.url)

    text = await error_text(shopify, purchase)

    assert text == "no access token is known for this shop"
    assert fake.asked == []
    await shopify.close()


async def test_two_tokens_have_the_time_of_one(
    tokens: Tokens, fake: FakePlatform, purchase: CheckoutRequest
) -> None:
    limits = Limits(attempt_seconds=0.4, total_seconds=0.5, attempts_max=1)
    shopify = new(tokens, fake.url, http=quick("shopify", limits))
    fake.replies(Reply(status=401, after_seconds=0.3))
    start = time.monotonic()

    assert await error_text(shopify, purchase) == "shopify does not answer"
    assert time.monotonic() - start < 1.5
    await shopify.close()


@pytest.mark.parametrize(
    "shop",
    [
        "evil.example",
        "myshopify.com",
        ".myshopify.com",
        "-a.myshopify.com",
        "a.b.myshopify.com",
        "one.myshopify.com.evil.example",
        "evil.example/one.myshopify.com",
        "evil.example#.myshopify.com",
        "evil.example?.myshopify.com",
        "user@evil.example:1.myshopify.com",
        "user@one.myshopify.com",
        "one.myshopify.com\n.evil.example",
        "one.myshopify.com\\.evil.example",
        "",
    ],
)
@pytest.mark.parametrize("url", ["https://{shop}", "http://{shop}:8080/x"])
async def test_a_token_never_goes_to_a_host_that_is_not_shopifys(
    tokens: Tokens, shop: str, url: str
) -> None:
    shopify = new(tokens, url)

    assert await error_text(shopify, request_for(shop_domain=shop)) == (
        "the shop is not one of shopify"
    )
    assert tokens.asked == []
    await shopify.close()


async def test_elsewhere_the_shop_is_one_part_of_the_path(
    shopify: Shopify, tokens: Tokens, fake: FakePlatform
) -> None:
    fake.replies(said())
    await shopify.create_checkout(request_for(shop_domain="One.Example/../x?y#z"))

    assert tokens.asked == ["one.example"]
    assert fake.asked[0].path == "/one.example/admin/api/2026-10/graphql.json"


async def test_nothing_of_an_answer_is_logged(
    shopify: Shopify,
    fake: FakePlatform,
    purchase: CheckoutRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "billing_stream")
    fake.replies(Reply(status=401, body=b"private"), said())
    await shopify.create_checkout(purchase)

    ours = [one.getMessage() for one in caplog.records if one.name.startswith("billing_stream")]
    assert not any(word in " ".join(ours) for word in ("private", "first", "second", PAGE))


BODY = json.dumps(
    {
        "app_purchase_one_time": {
            "admin_graphql_api_id": CHARGE,
            "name": "Pro",
            "status": "ACTIVE",
            "admin_graphql_api_shop_id": "gid://shopify/Shop/65949302956",
            "created_at": "2025-06-09T11:54:13-04:00",
            "updated_at": "2025-06-09T11:54:16-04:00",
        }
    }
).encode()


def signature(body: bytes, secret: str = SECRET) -> str:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def headers(body: bytes = BODY, secret: str = SECRET, **changes: str | None) -> dict[str, str]:
    """The headers of a delivery; `changes` replace or (None) remove, `_` for `-`."""
    all_headers: dict[str, str | None] = {
        "X-Shopify-Hmac-Sha256": signature(body, secret),
        "X-Shopify-Topic": "app_purchases_one_time/update",
        "X-Shopify-Shop-Domain": "One.myshopify.com",
        "X-Shopify-Webhook-Id": "w1",
        "X-Shopify-Event-Id": "e1",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return {name: value for name, value in all_headers.items() if value is not None}


TOLD = PlatformEvent(
    kind=PlatformEventKind.UPDATED,
    charge_id=CHARGE,
    status="ACTIVE",
    shop_domain=SHOP,
    delivery_id="w1",
)


def test_a_signed_webhook_is_told_as_it_was_sent(shopify: Shopify) -> None:
    assert shopify.read_webhook(headers(), BODY, NOW) == TOLD


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_header_names_are_read_in_any_letter_case(shopify: Shopify, change: Any) -> None:
    changed = {change(name): value for name, value in headers().items()}

    assert shopify.read_webhook(changed, BODY, NOW) == TOLD


def test_while_the_secret_is_replaced_both_are_good(shopify: Shopify) -> None:
    assert shopify.read_webhook(headers(secret=OLD), BODY, NOW) == TOLD


def test_an_event_id_is_better_than_none(shopify: Shopify) -> None:
    only_event = shopify.read_webhook(headers(X_Shopify_Webhook_Id=None), BODY, NOW)
    neither = shopify.read_webhook(
        headers(X_Shopify_Webhook_Id=None, X_Shopify_Event_Id=None), BODY, NOW
    )

    assert isinstance(only_event, PlatformEvent)
    assert only_event.delivery_id == "e1"
    assert isinstance(neither, PlatformEvent)
    assert neither.delivery_id is None


def test_a_body_altered_in_any_byte_is_forged(shopify: Shopify) -> None:
    for place in range(len(BODY)):
        altered = bytearray(BODY)
        altered[place] ^= 1
        with pytest.raises(WebhookForged):
            shopify.read_webhook(headers(), bytes(altered), NOW)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "x",
        "é",
        "\udcff",
        signature(BODY, "shpss_other"),
        signature(BODY, ""),
        signature(BODY).lower(),
        hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest(),
    ],
)
def test_any_other_signature_is_forged(shopify: Shopify, value: str | None) -> None:
    with pytest.raises(WebhookForged):
        shopify.read_webhook(headers(X_Shopify_Hmac_Sha256=value), BODY, NOW)


@pytest.mark.parametrize("secrets", [[], [""], ["", "  "]])
async def test_without_a_secret_every_webhook_is_forged(secrets: list[str]) -> None:
    shopify = Shopify(
        Tokens(), api_url="http://x", api_version="2026-10", test=True, secrets=secrets
    )
    for secret in ("", "  ", SECRET):
        with pytest.raises(WebhookForged):
            shopify.read_webhook(headers(secret=secret), BODY, NOW)
    await shopify.close()


@pytest.mark.parametrize("topic", [None, "", "app/scopes_update", "app_subscriptions/update"])
def test_another_topic_is_nothing_of_ours_but_must_be_signed(
    shopify: Shopify, topic: str | None
) -> None:
    ignored = IgnoredWebhook(topic or "")
    assert shopify.read_webhook(headers(X_Shopify_Topic=topic), BODY, NOW) == ignored
    with pytest.raises(WebhookForged):
        shopify.read_webhook(headers(secret="x", X_Shopify_Topic=topic), BODY, NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"app_purchase_one_time": null}',
        b'{"app_purchase_one_time": {"status": "ACTIVE"}}',
        b'{"app_purchase_one_time": {"admin_graphql_api_id": "", "status": "ACTIVE"}}',
        b'{"app_purchase_one_time": {"admin_graphql_api_id": "x", "status": 1}}',
    ],
    ids=lambda body: repr(body[:60]),
)
def test_a_signed_body_with_invalid_fields_is_malformed(shopify: Shopify, body: bytes) -> None:
    with pytest.raises(WebhookMalformed, match=r"^`app_purchase_one_time") as raised:
        shopify.read_webhook(headers(body), body, NOW)

    found = raised.value
    assert (found.kind, found.shop_domain, found.delivery_id) == ("updated", SHOP, "w1")


# Shopify's secret signs these too, and every merchant has some of them in its browser.
@pytest.mark.parametrize(
    "text",
    [
        b"code=0907a61c0c8d55e99db179b68161bc00&shop=one.myshopify.com&timestamp=1337178173",
        b"embedded=1&host=YWRtaW4&locale=en&session=1&shop=one.myshopify.com&timestamp=1",
        b"eyJhbGciOiJIUzI1NiJ9.eyJkZXN0IjoiaHR0cHM6Ly9vbmUubXlzaG9waWZ5LmNvbSJ9",
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"x":' * 5000,
    ],
)
@pytest.mark.parametrize("topic", ["app_purchases_one_time/update", "shop/redact", "app/x"])
def test_what_the_secret_signs_for_another_purpose_is_forged(
    shopify: Shopify, text: bytes, topic: str
) -> None:
    with pytest.raises(WebhookForged, match="not a JSON object"):
        shopify.read_webhook(headers(text, X_Shopify_Topic=topic), text, NOW)


ABOUT_SHOPS = {
    "shop/redact": (
        ShopEventKind.ERASURE,
        b'{"shop_id": 954889, "shop_domain": "One.myshopify.com"}',
        "`shop_domain`",
    ),
    "app/uninstalled": (
        ShopEventKind.UNINSTALLED,
        b'{"id": 954889, "myshopify_domain": "One.myshopify.com", "domain": "www.one.example"}',
        "`myshopify_domain`",
    ),
}


@pytest.mark.parametrize("named", ABOUT_SHOPS)
@pytest.mark.parametrize("header", ["www.one.example", None])
def test_a_webhook_about_a_shop_names_it_in_what_is_signed(
    shopify: Shopify, named: str, header: str | None
) -> None:
    kind, body, field = ABOUT_SHOPS[named]
    triggered = "2026-11-01T00:00:00.877041743Z"
    topic: dict[str, Any] = {
        "X_Shopify_Topic": named,
        "X_Shopify_Triggered_At": triggered,
        "X_Shopify_Shop_Domain": header,
    }
    at = datetime(2026, 11, 1, 0, 0, 0, 877042, tzinfo=UTC)

    found = shopify.read_webhook(headers(body, **topic), body, NOW)
    assert found == ShopEvent(
        kind=kind, shop=f"shopify:{SHOP}", type=named, delivery_id="w1", triggered_at=at
    )
    for when in (None, "", "yesterday", "2026-11-01T00:00:00"):
        undated = {**topic, "X_Shopify_Triggered_At": when}
        with pytest.raises(WebhookMalformed, match="Triggered-At is not an RFC 3339 time"):
            shopify.read_webhook(headers(body, **undated), body, NOW)
    nameless = (b"null", b'" "', b'"' + b"x" * 254 + b'"', b'"127.0.0.1"', b"7")
    bodies = [body.replace(b'"One.myshopify.com"', name) for name in nameless]
    for other in (b"{}", BODY, *bodies):
        with pytest.raises(WebhookMalformed, match=f"^{field}") as raised:
            shopify.read_webhook(headers(other, **topic), other, NOW)
        assert raised.value.kind == kind


@pytest.mark.parametrize("topic", ["customers/data_request", "customers/redact"])
def test_what_is_asked_about_customers_is_answered_whatever_it_says(
    shopify: Shopify, topic: str
) -> None:
    for body in (b"{}", b'{"shop_domain": 5, "customer": null}'):
        found = shopify.read_webhook(headers(body, X_Shopify_Topic=topic), body, NOW)
        assert found == IgnoredWebhook(topic, "no data of customers of a shop is kept")
        with pytest.raises(WebhookForged):
            shopify.read_webhook(headers(body, "another secret", X_Shopify_Topic=topic), body, NOW)


@pytest.mark.parametrize("domain", [None, "", "  "])
def test_a_webhook_of_no_shop_is_malformed(shopify: Shopify, domain: str | None) -> None:
    with pytest.raises(WebhookMalformed):
        shopify.read_webhook(headers(X_Shopify_Shop_Domain=domain), BODY, NOW)
