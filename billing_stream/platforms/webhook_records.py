"""The record of a webhook: its topic and its payload."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from billing_stream.domain.model import Platform
from billing_stream.errors import WebhookMalformed
from billing_stream.platforms import custom, shopify_webhooks, stripe_webhooks
from billing_stream.platforms.base import (
    IgnoredWebhook,
    PlatformEvent,
    PlatformEventKind,
    ShopEvent,
    ShopEventKind,
)
from billing_stream.platforms.webhook_bodies import read_object
from billing_stream.records import topics

TOPICS = {
    PlatformEventKind.UPDATED: topics.PURCHASE_UPDATED,
    PlatformEventKind.REFUNDED: topics.PURCHASE_REFUNDED,
    PlatformEventKind.REFUND_FAILED: topics.REFUND_FAILED,
    PlatformEventKind.DISPUTED: topics.PURCHASE_DISPUTED,
    ShopEventKind.ERASURE: topics.COMMANDS,
    ShopEventKind.UNINSTALLED: topics.COMMANDS,
}
"""The topic of each kind."""
_COMMANDS = {
    ShopEventKind.ERASURE: "forget_merchant",
    ShopEventKind.UNINSTALLED: "uninstall_merchant",
}
_SAID = ("purchase_id", "amount", "currency", "charge_amount", "refund_id", "dispute_id")


class Payload(Struct, frozen=True):
    """A record to be: the topic (without a prefix), and the data."""

    topic: str
    data: dict[str, Any]


def payload_of(content: PlatformEvent | ShopEvent, merchant_id: str) -> Payload:
    """The record of a webhook of this merchant."""
    data: dict[str, Any] = {"merchant_id": merchant_id}
    if isinstance(content, ShopEvent):
        data |= {
            "command": _COMMANDS[content.kind],
            "shop": content.shop,
        }
        if content.triggered_at is not None:
            data["triggered_at"] = content.triggered_at.isoformat()
        return Payload(topics.COMMANDS, data)
    data["charge_id"] = content.charge_id
    if content.kind in (PlatformEventKind.UPDATED, PlatformEventKind.DISPUTED):
        data["status"] = content.status
    said = {name: getattr(content, name) for name in _SAID}
    data |= {name: value for name, value in said.items() if value is not None}
    return Payload(TOPICS[content.kind], data)


def read_kept(
    platform: str,
    body: bytes,
    *,
    kind: str | None,
    shop: str | None,
    received_at: datetime | None = None,
) -> PlatformEvent | ShopEvent:
    """A webhook that was verified when it came, from the body that was kept, or a corrected one.

    What it reports of a shop happened by `received_at`. A body with a `charge_id` is read as one of
    the custom gateway, whatever the platform.
    Raises WebhookForged where it is not an object, and WebhookMalformed.
    """
    if platform == Platform.CUSTOM or "charge_id" in read_object(body):
        return custom.read_body(body, kind)
    if platform == Platform.SHOPIFY:
        return shopify_webhooks.read_body(body, kind, shop or "", None, received_at)
    if platform != Platform.STRIPE:
        raise WebhookMalformed(f"no platform {platform!r} is known")
    event = stripe_webhooks.read_event(body)
    if isinstance(event, IgnoredWebhook):
        raise WebhookMalformed("is not an event of a purchase of a merchant", kind=kind)
    return event
