"""The doctor names the webhooks that a platform is not set up to send."""

import json
from typing import Any

import pytest

from billing_stream.config.settings import Settings
from billing_stream.ops.doctor.finding import Finding, Verdict
from billing_stream.ops.doctor.webhook_checks import check_webhooks
from billing_stream.platforms.stripe_webhooks import EVENTS_READ
from tests.platforms.conftest import SHOP
from tests.platforms.fake import FakePlatform, Reply, fake_platform
from tests.support.worker import environment

OURS = "https://billing.example/webhooks/stripe"


def endpoint(url: str = OURS, status: str = "enabled", *events: str) -> dict[str, Any]:
    return {"url": url, "status": status, "enabled_events": list(events)}


async def findings(fake: FakePlatform, **settings: str) -> list[Finding]:
    env = environment("127.0.0.1:1", "", **settings)
    return [finding async for finding in check_webhooks(Settings.model_validate(env))]


async def of_stripe(reply: Reply) -> Finding:
    async with fake_platform() as fake:
        fake.replies(reply)
        (found,) = await findings(
            fake,
            STRIPE_API_KEY="sk_test_1",
            STRIPE_WEBHOOK_SECRET="whsec_for_tests_0123456789",
            STRIPE_API_URL=fake.url,
        )
        assert {one.method for one in fake.asked} == {"GET"}
        return found


@pytest.mark.parametrize(
    ("endpoints", "verdict", "words"),
    [
        ([endpoint(OURS, "enabled", "*")], Verdict.OK, OURS),
        ([endpoint(OURS + "/", "enabled", *EVENTS_READ)], Verdict.OK, OURS),
        ([], Verdict.FAIL, "no enabled endpoint"),
        ([endpoint(OURS, "disabled", "*")], Verdict.FAIL, "no enabled endpoint"),
        ([endpoint("https://other.example/", "enabled", "*")], Verdict.FAIL, "no enabled endpoint"),
        (
            [endpoint(OURS, "enabled", *(EVENTS_READ - {"charge.refunded"}))],
            Verdict.FAIL,
            "lacks the events charge.refunded",
        ),
    ],
)
async def test_missing_endpoints_and_events_of_stripe_are_named(
    endpoints: list[Any], verdict: Verdict, words: str
) -> None:
    found = await of_stripe(Reply(body={"data": endpoints}))

    assert found.verdict is verdict
    assert words in found.message
    assert bool(found.action) == (verdict is not Verdict.OK)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_endpoints_that_cannot_be_read_are_a_warning(status: int) -> None:
    found = await of_stripe(Reply(status=status, body={"error": {"message": "no"}}))

    assert found.verdict is Verdict.WARN
    assert "sk_test_1" not in found.message


@pytest.mark.parametrize(
    ("subscribed", "missing"),
    [
        ((True, True), []),
        ((False, True), ["app_purchases_one_time/update"]),
        ((True, False), ["app/uninstalled"]),
        ((False, False), ["app_purchases_one_time/update", "app/uninstalled"]),
    ],
)
async def test_a_missing_subscription_of_shopify_is_named(
    subscribed: tuple[bool, bool], missing: list[str]
) -> None:
    async with fake_platform() as fake:
        nodes = [[{"id": "gid://shopify/WebhookSubscription/1"}] * there for there in subscribed]
        data = [{"webhookSubscriptions": {"nodes": one}} for one in nodes]
        fake.replies(*(Reply(body={"data": one}) for one in data))
        found = await findings(
            fake,
            SHOPIFY_API_SECRET="shopify-secret-for-tests-0123456789",
            SHOPIFY_API_VERSION="2026-10",
            SHOPIFY_ACCESS_TOKENS=json.dumps({SHOP: "token"}),
            SHOPIFY_API_URL=fake.url,
        )
        asked = [one.json["variables"]["topics"] for one in fake.asked]

    assert all(SHOP in one.message for one in found)
    assert asked == [["APP_PURCHASES_ONE_TIME_UPDATE"], ["APP_UNINSTALLED"]]
    assert [one.verdict for one in found] == (["WARN"] * len(missing) or ["OK"])
    for one, topic in zip(found, missing, strict=False):
        assert f"no subscription to {topic} in" in one.message


async def test_a_gateway_without_look_ups_is_a_warning() -> None:
    async with fake_platform() as fake:
        gateway = {
            "CUSTOM_GATEWAY_URL": fake.url,
            "CUSTOM_GATEWAY_SECRET": "gateway-secret-for-tests-0123456789",
        }
        (found,) = await findings(fake, **gateway)
        lookup = {"CUSTOM_GATEWAY_LOOKUP_URL": fake.url + "/{charge_id}"}

        assert found.verdict is Verdict.WARN
        assert "CUSTOM_GATEWAY_LOOKUP_URL" in found.action
        assert await findings(fake, **gateway, **lookup) == []


async def test_without_platforms_nothing_is_asked() -> None:
    async with fake_platform() as fake:
        assert await findings(fake) == []
