"""The record of a webhook: its topic and its payload."""

from typing import Any

from msgspec import Struct

from billing_stream.domain.model import Platform
from billing_stream.errors import WebhookMalformed
from billing_stream.platforms import custom, shopify, stripe_webhooks
from billing_stream.platforms.base import (
    ERASURE,
    ErasureRequest,
    IgnoredWebhook,
    PlatformEvent,
    PlatformEventKind,
)
from billing_stream.platforms.webhook_bodies import read_object
from billing_stream.records import topics

TOPICS = {
    PlatformEventKind.UPDATED: topics.PURCHASE_UPDATED,
    PlatformEventKind.REFUNDED: topics.PURCHASE_REFUNDED,
    PlatformEventKind.REFUND_FAILED: topics.REFUND_FAILED,
    PlatformEventKind.DISPUTED: topics.PURCHASE_DISPUTED,
    ERASURE: topics.COMMANDS,
}
"""The topic of each kind."""
_SAID = ("purchase_id", "amount", "currency", "charge_amount", "refund_id", "dispute_id")


class Payload(Struct, frozen=True):
    """A record to be: the topic (without a prefix), and the data."""

    topic: str
    data: dict[str, Any]


def kind_of(content: PlatformEvent | ErasureRequest) -> str:
    """The kind, a key of `TOPICS`."""
    return content.kind if isinstance(content, PlatformEvent) else ERASURE


def payload_of(content: PlatformEvent | ErasureRequest, merchant_id: str) -> Payload:
    """The record of a webhook of this merchant."""
    data: dict[str, Any] = {"merchant_id": merchant_id}
    if isinstance(content, ErasureRequest):
        data["command"] = "forget_merchant"
        return Payload(topics.COMMANDS, data)
    data["charge_id"] = content.charge_id
    if content.kind in (PlatformEventKind.UPDATED, PlatformEventKind.DISPUTED):
        data["status"] = content.status
    said = {name: getattr(content, name) for name in _SAID}
    data |= {name: value for name, value in said.items() if value is not None}
    return Payload(TOPICS[content.kind], data)


def read_kept(
    platform: str, body: bytes, *, kind: str | None, shop: str | None
) -> PlatformEvent | ErasureRequest:
    """A webhook that was verified when it came, from the body that was kept, or a corrected one.

    A body with a `charge_id` is read as one of the custom gateway, whatever the platform.
    Raises WebhookForged where it is not an object, and WebhookMalformed.
    """
    if platform == Platform.CUSTOM or "charge_id" in read_object(body):
        return custom.read_body(body, kind)
    if platform == Platform.SHOPIFY:
        return shopify.read_body(body, kind, shop or "", None)
    if platform != Platform.STRIPE:
        raise WebhookMalformed(f"no platform {platform!r} is known")
    event = stripe_webhooks.read_event(body)
    if isinstance(event, IgnoredWebhook):
        raise WebhookMalformed("is not an event of a purchase of a merchant", kind=kind)
    return event
