"""Whether the platforms are set up to send the webhooks that this service reads."""

from collections.abc import AsyncIterator
from functools import partial
from types import MappingProxyType

from billing_stream.config.settings import Settings
from billing_stream.domain.model import Platform
from billing_stream.errors import PlatformError
from billing_stream.ops.doctor.finding import Finding, fail, ok, warn
from billing_stream.platforms.platform_factory import new_platforms
from billing_stream.platforms.shopify import Shopify
from billing_stream.platforms.shopify_webhooks import TOPIC, UNINSTALLED_TOPIC
from billing_stream.platforms.stripe import Stripe
from billing_stream.platforms.webhook_endpoints import (
    missing_events,
    shopify_subscribed,
    stripe_endpoints,
)
from billing_stream.web.auth import shop_token_headers

CHECK = "webhooks"
SHOPS_MAX = 3
UNPAID = "until then payments are credited by look-ups only: `billing-stream docs reconciliation`"


async def check_webhooks(settings: Settings) -> AsyncIterator[Finding]:
    """A finding for each platform that can be asked."""
    headers = partial(shop_token_headers, settings.internal_jwt_secrets[0])
    platforms = new_platforms(settings, headers)
    try:
        stripe = platforms.get(Platform.STRIPE)
        if isinstance(stripe, Stripe):
            yield await _stripe(stripe)
        shopify = platforms.get(Platform.SHOPIFY)
        if isinstance(shopify, Shopify):
            async for finding in _shopify(shopify):
                yield finding
        if settings.custom_gateway_url and not settings.custom_gateway_lookup_url:
            message = "a lost webhook of the custom gateway stays lost: it is not looked up"
            yield warn(
                CHECK,
                message,
                "set CUSTOM_GATEWAY_LOOKUP_URL: `billing-stream docs reconciliation`",
            )
    finally:
        for platform in platforms.values():
            await platform.close()


# What is missing where Shopify does not send a topic.
SHOPIFY_TOPICS = MappingProxyType(
    {
        TOPIC: UNPAID,
        UNINSTALLED_TOPIC: "until then purchases of shops that left stay open until they expire",
    }
)


async def _stripe(stripe: Stripe) -> Finding:
    try:
        endpoints = await stripe_endpoints(stripe)
    except PlatformError as error:
        action = "allow this key to read webhook endpoints, or look at them in Stripe's dashboard"
        return warn(CHECK, f"the endpoints of Stripe cannot be read: {error}", action)
    ours = [endpoint for endpoint in endpoints if endpoint.is_ours]
    if not ours:
        message = "Stripe has no enabled endpoint with an address that ends in /webhooks/stripe"
        return fail(CHECK, message, f"create one, or enable it; {UNPAID}")
    missing = missing_events(ours)
    if missing:
        message = f"the endpoint of Stripe lacks the events {', '.join(missing)}"
        return fail(CHECK, message, f"add them to the endpoint; {UNPAID}")
    return ok(CHECK, f"Stripe sends its events to {', '.join(one.url for one in ours)}")


async def _shopify(shopify: Shopify) -> AsyncIterator[Finding]:
    shops = shopify.known_shops()[:SHOPS_MAX]
    if not shops:
        yield ok(CHECK, "no shop of Shopify is known here: its subscriptions are not looked at")
    for shop in shops:
        try:
            missing = [t for t in SHOPIFY_TOPICS if not await shopify_subscribed(shopify, shop, t)]
        except PlatformError as error:
            message = f"the subscriptions of {shop} cannot be read: {error}"
            yield warn(CHECK, message, "look at its access token")
            continue
        if not missing:
            yield ok(CHECK, f"Shopify sends {' and '.join(SHOPIFY_TOPICS)} of {shop}")
        for topic in missing:
            message = f"the app has no subscription to {topic} in {shop} that the API shows"
            action = f"subscribe, unless shopify.app.toml does; {SHOPIFY_TOPICS[topic]}"
            yield warn(CHECK, message, action)
