"""Webhooks as the platforms send them, with real signatures, and settings that believe them."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from billing_stream.platforms.signatures import sign

SECRETS: Mapping[str, str] = {
    "SHOPIFY_API_SECRET": "shopify-secret-for-tests-0123456789",
    "STRIPE_WEBHOOK_SECRET": "whsec_for_tests_0123456789",
    "CUSTOM_GATEWAY_SECRET": "gateway-secret-for-tests-0123456789",
}
PURCHASE_TOPIC = "app_purchases_one_time/update"


class Signed(Struct, frozen=True):
    """A request of a platform."""

    path: str
    headers: dict[str, str]
    body: bytes


def raw(body: Any) -> bytes:
    """The body as JSON, or the bytes given."""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def shopify_hmac(body: bytes) -> str:
    """What Shopify's secret makes of a text."""
    secret = SECRETS["SHOPIFY_API_SECRET"].encode()
    return base64.b64encode(hmac.new(secret, body, hashlib.sha256).digest()).decode()


def shopify(
    body: Any,
    shop: str,
    *,
    topic: str = PURCHASE_TOPIC,
    delivery: str | None = "w-1",
    triggered: str = "2030-01-01T00:00:00.877041743Z",
) -> Signed:
    """A webhook of Shopify."""
    headers = {
        "X-Shopify-Hmac-Sha256": shopify_hmac(raw(body)),
        "X-Shopify-Topic": topic,
        "X-Shopify-Shop-Domain": shop,
        "X-Shopify-Triggered-At": triggered,
    }
    if delivery is not None:
        headers["X-Shopify-Webhook-Id"] = delivery
    return Signed("/webhooks/shopify", headers, raw(body))


def uninstalled(shop: str, triggered: str, delivery: str = "w-1") -> Signed:
    """Shopify's webhook about a shop that uninstalled the app."""
    body = {"id": 954889, "myshopify_domain": shop, "domain": "www.one.example"}
    topic = "app/uninstalled"
    return shopify(body, "www.one.example", topic=topic, delivery=delivery, triggered=triggered)


def redact(shop: str, triggered: str, delivery: str = "w-2") -> Signed:
    """Shopify's webhook that asks to erase the data of a shop."""
    body = {"shop_id": 954889, "shop_domain": shop}
    return shopify(body, shop, topic="shop/redact", delivery=delivery, triggered=triggered)


def charge(charge_id: Any, status: Any = "ACTIVE") -> dict[str, Any]:
    """The body of Shopify's webhook about a charge."""
    return {"app_purchase_one_time": {"admin_graphql_api_id": charge_id, "status": status}}


def stripe(body: Any) -> Signed:
    """An event of Stripe."""
    signature = sign(SECRETS["STRIPE_WEBHOOK_SECRET"], raw(body), datetime.now(UTC))
    return Signed("/webhooks/stripe", {"Stripe-Signature": signature}, raw(body))


def event(type_: str, found: Any, event_id: str = "evt_1") -> dict[str, Any]:
    """The body of an event of Stripe about an object."""
    return {"id": event_id, "object": "event", "type": type_, "data": {"object": found}}


def custom(body: Any) -> Signed:
    """A webhook of the custom gateway."""
    signature = sign(SECRETS["CUSTOM_GATEWAY_SECRET"], raw(body), datetime.now(UTC))
    return Signed("/webhooks/custom", {"X-Billing-Signature": signature}, raw(body))
