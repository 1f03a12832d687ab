"""Webhooks of Shopify: of charges, of shops that uninstalled the app, and for the app's review.

https://shopify.dev/docs/apps/build/compliance/privacy-law-compliance
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from billing_stream.domain.commands import Text
from billing_stream.domain.ids import shop_key
from billing_stream.domain.model import Instant, Platform
from billing_stream.domain.shop_names import shop_domain
from billing_stream.errors import WebhookForged, WebhookMalformed
from billing_stream.platforms.base import (
    IgnoredWebhook,
    PlatformEvent,
    PlatformEventKind,
    ShopEvent,
    ShopEventKind,
    WebhookContent,
)
from billing_stream.platforms.signatures import find_header, same, usable
from billing_stream.platforms.webhook_bodies import read_fields, read_object

TOPIC = "app_purchases_one_time/update"
UNINSTALLED_TOPIC = "app/uninstalled"
# Each app must answer these, whatever it keeps.
COMPLIANCE_TOPICS = ("shop/redact", "customers/data_request", "customers/redact")

_KINDS = MappingProxyType(
    {
        TOPIC: PlatformEventKind.UPDATED,
        UNINSTALLED_TOPIC: ShopEventKind.UNINSTALLED,
        "shop/redact": ShopEventKind.ERASURE,
    }
)


class _Updated(Struct):
    admin_graphql_api_id: Text
    status: Annotated[str, Meta(min_length=1, max_length=64)]


class _Webhook(Struct):
    app_purchase_one_time: _Updated


class _Redact(Struct):
    shop_domain: Text


class _Uninstalled(Struct):
    myshopify_domain: Text


def read_webhook(headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> WebhookContent:
    """The content of a webhook.

    Raises WebhookForged unless one of `secrets` signed `body`, and WebhookMalformed.
    """
    signature = find_header(headers, "X-Shopify-Hmac-Sha256")
    if not signature:
        raise WebhookForged("the signature is missing")
    if not any(same(_digest(secret, body), signature) for secret in usable(secrets)):
        raise WebhookForged("the signature is wrong")
    read_object(body)
    topic = find_header(headers, "X-Shopify-Topic") or ""
    kind = _KINDS.get(topic)
    if kind is None:
        known = topic in COMPLIANCE_TOPICS
        return IgnoredWebhook(topic, "no data of customers of a shop is kept" if known else None)
    delivery_id = find_header(headers, "X-Shopify-Webhook-Id") or find_header(
        headers, "X-Shopify-Event-Id"
    )
    named = find_header(headers, "X-Shopify-Shop-Domain") or ""
    try:
        shop = shop_domain(named)
    except ValueError as error:
        if kind is PlatformEventKind.UPDATED:
            what = f"is not a host name: {error}" if named else "is missing"
            reason = f"the header X-Shopify-Shop-Domain {what}"
            raise WebhookMalformed(reason, kind=kind, delivery_id=delivery_id) from None
        shop = ""
    content = read_body(body, kind, shop, delivery_id)
    if isinstance(content, PlatformEvent):
        return content
    at = find_header(headers, "X-Shopify-Triggered-At")
    try:
        triggered_at = msgspec.convert(at, type=Instant)
    except msgspec.ValidationError:
        # Without it: an erasure is final, and the shop may have installed the app again since then.
        reason = "the header X-Shopify-Triggered-At is not an RFC 3339 time"
        _, _, shop = content.shop.partition(":")
        raise WebhookMalformed(
            reason, kind=kind, shop_domain=shop, delivery_id=delivery_id
        ) from None
    return msgspec.structs.replace(content, type=topic, triggered_at=triggered_at)


def read_body(
    body: bytes,
    kind: str | None,
    shop: str,
    delivery_id: str | None,
    triggered_at: datetime | None = None,
) -> PlatformEvent | ShopEvent:
    """A webhook of a shop that was verified. Raises WebhookMalformed.

    `kind` is a `ShopEventKind`, or anything else for an update of a charge. A webhook about a shop
    names it in its body: only that is signed, and not `shop`, that of the header.
    """
    try:
        if kind in tuple(ShopEventKind):
            found = ShopEventKind(kind or "")
            return ShopEvent(
                kind=found,
                shop=shop_key(Platform.SHOPIFY, _named(body, found)),
                delivery_id=delivery_id,
                triggered_at=triggered_at,
            )
        updated = read_fields(body, _Webhook).app_purchase_one_time
    except ValueError as error:
        raise WebhookMalformed(
            str(error),
            kind=kind,
            shop_domain=shop or None,
            delivery_id=delivery_id,
        ) from None
    return PlatformEvent(
        kind=PlatformEventKind.UPDATED,
        charge_id=updated.admin_graphql_api_id,
        status=updated.status,
        shop_domain=shop,
        delivery_id=delivery_id,
    )


def _named(body: bytes, kind: ShopEventKind) -> str:
    """The shop that a webhook about a shop names. Raises ValueError."""
    if kind is ShopEventKind.ERASURE:
        name, shop = "shop_domain", read_fields(body, _Redact).shop_domain
    else:
        name, shop = "myshopify_domain", read_fields(body, _Uninstalled).myshopify_domain
    try:
        return shop_domain(shop)
    except ValueError as error:
        raise ValueError(f"`{name}` is not a host name: {error}") from None


def _digest(secret: bytes, body: bytes) -> str:
    return base64.b64encode(hmac.new(secret, body, hashlib.sha256).digest()).decode()
