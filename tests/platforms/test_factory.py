"""Which platforms there are in which environment, and how they were set up."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from billing_stream.config.settings import Settings
from billing_stream.domain.model import Platform as PlatformName
from billing_stream.errors import PlatformError, SettingsError, WebhookForged
from billing_stream.platforms.base import Platform, PlatformEvent
from billing_stream.platforms.custom import Custom
from billing_stream.platforms.local import Local, read_token
from billing_stream.platforms.platform_factory import new_platforms
from billing_stream.platforms.shopify import Shopify
from billing_stream.platforms.signatures import sign
from billing_stream.platforms.stripe import Stripe
from tests.platforms.conftest import MERCHANT, NOW, SHOP, request_for
from tests.platforms.fake import FakePlatform, Reply
from tests.support.production import PRODUCTION, secret

INTERNAL = secret("internal")
GATEWAY = secret("gateway")
DEVELOPMENT = ["development", "test"]
REAL = ["staging", "production"]
NAMES = (PlatformName.SHOPIFY, PlatformName.STRIPE, PlatformName.CUSTOM)

New = Callable[..., dict[PlatformName, Platform]]


@pytest_asyncio.fixture
async def new(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[New]:
    """Platforms by environment variables, closed after the test."""
    made: list[Platform] = []

    def build(app_env: str, **variables: str) -> dict[PlatformName, Platform]:
        everything = {
            "APP_ENV": app_env,
            "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
            "CLIENT_JWT_SECRET": "c" * 40,
            "INTERNAL_JWT_SECRET": INTERNAL,
            **variables,
        }
        if app_env in REAL:
            strong = {**PRODUCTION, "INTERNAL_JWT_SECRET": INTERNAL}
            everything = {**everything, **strong, "APP_ENV": app_env, **variables}
        for name, value in everything.items():
            monkeypatch.setenv(name, value)
        found = new_platforms(Settings.from_env(), lambda _: {"Authorization": "Bearer internal"})
        made.extend(found.values())
        return found

    yield build
    await asyncio.gather(*(platform.close() for platform in made))


async def opened(platform: Platform) -> str:
    return (await platform.create_checkout(request_for())).url


@pytest.mark.parametrize("app_env", DEVELOPMENT)
async def test_without_accounts_every_platform_is_local(new: New, app_env: str) -> None:
    found = new(app_env)

    assert tuple(found) == NAMES
    for platform in found.values():
        assert isinstance(platform, Local)
        prefix = "http://127.0.0.1:8000/dev/checkout/"
        url = await opened(platform)
        assert url.startswith(prefix)
        assert read_token(url.removeprefix(prefix), INTERNAL).merchant_id == MERCHANT
        with pytest.raises(WebhookForged):
            platform.read_webhook({}, b"{}", NOW)


async def test_local_charges_have_ids_of_shopify_for_shopify_only(new: New) -> None:
    charges = {
        name: (await platform.create_checkout(request_for())).charge_id
        for name, platform in new("development").items()
    }

    gid = "gid://shopify/AppPurchaseOneTime/"
    assert charges.pop(PlatformName.SHOPIFY).startswith(gid)
    assert all(charge.startswith("local_") for charge in charges.values())


async def test_the_local_page_is_where_browsers_reach_us(new: New) -> None:
    public = new("test", BILLING_PUBLIC_URL="https://billing.example/x/")

    url = await opened(public[PlatformName.STRIPE])

    assert url.startswith("https://billing.example/x/dev/checkout/")


async def test_the_local_page_is_by_default_on_this_worker(new: New) -> None:
    found = new("test", BILLING_API_HOST="box", BILLING_API_EXTERNAL_PORT="8123")

    url = await opened(found[PlatformName.CUSTOM])

    assert url.startswith("http://box:8123/dev/checkout/")


def shopify_webhook(secret: str) -> tuple[dict[str, str], bytes]:
    body = b'{"app_purchase_one_time": {"admin_graphql_api_id": "gid://1", "status": "ACTIVE"}}'
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    headers = {
        "X-Shopify-Hmac-Sha256": base64.b64encode(digest).decode(),
        "X-Shopify-Topic": "app_purchases_one_time/update",
        "X-Shopify-Shop-Domain": SHOP,
    }
    return headers, body


def stripe_webhook(secret: str) -> tuple[dict[str, str], bytes]:
    session = {"id": "gid://1", "payment_status": "paid", "metadata": {"merchant_id": MERCHANT}}
    event = {"id": "evt_1", "type": "checkout.session.completed", "data": {"object": session}}
    body = json.dumps(event).encode()
    return {"Stripe-Signature": sign(secret, body, NOW)}, body


def custom_webhook(secret: str) -> tuple[dict[str, str], bytes]:
    body = json.dumps(
        {"charge_id": "gid://1", "status": "active", "merchant_id": MERCHANT}
    ).encode()
    return {"X-Billing-Signature": sign(secret, body, NOW)}, body


WEBHOOKS = {
    PlatformName.SHOPIFY: (shopify_webhook, "SHOPIFY_API_SECRET"),
    PlatformName.STRIPE: (stripe_webhook, "STRIPE_WEBHOOK_SECRET"),
    PlatformName.CUSTOM: (custom_webhook, "CUSTOM_GATEWAY_SECRET"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_stand_in_with_a_secret_reads_the_webhooks_of_its_platform(
    new: New, name: PlatformName
) -> None:
    webhook, variable = WEBHOOKS[name]
    found = new("development", **{variable: GATEWAY, f"{variable}_OLD": "o" * 40})
    platform = found[name]

    assert isinstance(platform, Local)
    for signed_with in (GATEWAY, "o" * 40):
        told = platform.read_webhook(*webhook(signed_with), NOW)
        assert isinstance(told, PlatformEvent)
        assert told.charge_id == "gid://1"
    with pytest.raises(WebhookForged):
        platform.read_webhook(*webhook("x" * 40), NOW)
    for other in set(NAMES) - {name}:
        with pytest.raises(WebhookForged):
            found[other].read_webhook(*WEBHOOKS[other][0](GATEWAY), NOW)


@pytest.mark.parametrize("app_env", DEVELOPMENT + REAL)
def test_with_accounts_every_platform_is_real(new: New, app_env: str) -> None:
    found = new(
        app_env,
        SHOPIFY_API_VERSION="2026-10",
        SHOPIFY_ACCESS_TOKENS="{}",
        STRIPE_API_KEY=secret("stripe"),
        CUSTOM_GATEWAY_URL="https://gateway.example",
        **{variable: secret(variable) for _, variable in WEBHOOKS.values()},
    )

    assert [type(found[name]) for name in NAMES] == [Shopify, Stripe, Custom]
    for name in NAMES:
        webhook, variable = WEBHOOKS[name]
        assert found[name].read_webhook(*webhook(secret(variable)), NOW)


@pytest.mark.parametrize("app_env", REAL)
async def test_in_earnest_there_is_no_stand_in(new: New, app_env: str) -> None:
    found = new(app_env, STRIPE_WEBHOOK_SECRET=GATEWAY, CUSTOM_GATEWAY_SECRET=secret("custom"))

    assert list(found) == [PlatformName.SHOPIFY]
    assert isinstance(found[PlatformName.SHOPIFY], Shopify)
    with pytest.raises(PlatformError, match="no access token is known"):
        await found[PlatformName.SHOPIFY].create_checkout(request_for())


@pytest.mark.parametrize("app_env", DEVELOPMENT + REAL)
async def test_only_in_production_merchants_pay_shopify_in_earnest(
    new: New, fake: FakePlatform, app_env: str
) -> None:
    platform = new(
        app_env,
        SHOPIFY_API_VERSION="2026-07",
        SHOPIFY_ACCESS_TOKENS=json.dumps({SHOP: "shpat_1"}),
        SHOPIFY_API_URL=fake.url,
    )[PlatformName.SHOPIFY]
    created = {
        "appPurchaseOneTime": {"id": "gid://1"},
        "confirmationUrl": "https://x/y",
        "userErrors": [],
    }
    fake.replies(Reply(body={"data": {"appPurchaseOneTimeCreate": created}}))

    assert await opened(platform) == "https://x/y"
    assert fake.asked[0].path == "/admin/api/2026-07/graphql.json"
    assert fake.asked[0].json["variables"]["test"] is (app_env != "production")


async def of_a_file(new: New, fake: FakePlatform, folder: Path) -> None:
    path = folder / "tokens.json"
    path.write_text(json.dumps({SHOP: "shpat_1"}))
    await used(new, fake, SHOPIFY_ACCESS_TOKENS_FILE=str(path))


async def of_a_service(new: New, fake: FakePlatform, folder: Path) -> None:
    url = f"{fake.url}/tokens/{{shop}}"
    await used(new, fake, Reply(body={"access_token": "shpat_1"}), SHOPIFY_ACCESS_TOKENS_URL=url)
    assert fake.asked[0].path == f"/tokens/{SHOP}"
    assert fake.asked[0].headers["Authorization"] == "Bearer internal"


async def used(new: New, fake: FakePlatform, *replies: Reply, **variables: str) -> None:
    found = new("test", SHOPIFY_API_VERSION="2026-10", SHOPIFY_API_URL=fake.url, **variables)
    fake.replies(*replies, Reply(status=400))
    with pytest.raises(PlatformError, match="HTTP 400"):
        await found[PlatformName.SHOPIFY].create_checkout(request_for())
    assert fake.asked[-1].headers["X-Shopify-Access-Token"] == "shpat_1"


@pytest.mark.parametrize("source", [of_a_file, of_a_service])
async def test_tokens_come_from_where_the_settings_say(
    new: New,
    fake: FakePlatform,
    tmp_path: Path,
    source: Callable[[New, FakePlatform, Path], Awaitable[None]],
) -> None:
    await source(new, fake, tmp_path)


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"SHOPIFY_ACCESS_TOKENS": "{}"}, "SHOPIFY_API_VERSION is needed"),
        (
            {"SHOPIFY_ACCESS_TOKENS": "{}", "SHOPIFY_ACCESS_TOKENS_FILE": "/x"},
            "only one of them",
        ),
        ({"SHOPIFY_ACCESS_TOKENS": "shpat_x"}, "SHOPIFY_ACCESS_TOKENS is not"),
        ({"STRIPE_API_KEY": "sk_x"}, "STRIPE_WEBHOOK_SECRET is needed"),
        ({"CUSTOM_GATEWAY_URL": "http://x"}, "CUSTOM_GATEWAY_SECRET is needed"),
    ],
)
def test_half_an_account_is_no_account(new: New, variables: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=text) as raised:
        new("test", **variables)

    assert "shpat_x" not in str(raised.value)


def test_an_empty_variable_is_as_good_as_none(new: New) -> None:
    found = new("test", SHOPIFY_ACCESS_TOKENS="", STRIPE_API_KEY=" ", STRIPE_WEBHOOK_SECRET="")

    assert all(isinstance(platform, Local) for platform in found.values())


def test_prices_that_stripe_cannot_charge_are_refused_at_the_start(new: New) -> None:
    packs = {"BILLING_CURRENCY": "KWD", "SMALL_PACK_PRICE": "1.005"}
    with pytest.raises(SettingsError, match=r"pack small in KWD, 1\.005: .* by Stripe"):
        new("test", STRIPE_API_KEY="sk_test_1", STRIPE_WEBHOOK_SECRET="whsec_1", **packs)
