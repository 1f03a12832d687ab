"""Webhooks of platforms: verified, written to their topic, and only then acknowledged.

Nothing is decided here. Duplicates and wrong order are harmless further on, where what counts
is the charge and its status, not the delivery. A webhook that is known to be invalid is written
to the dead letters, and never to an input topic.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from billing_stream.domain.ids import charge_key, shop_key
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import ErrorCode
from billing_stream.errors import InvalidRecord, PlatformError, WebhookForged, WebhookMalformed
from billing_stream.platforms import custom
from billing_stream.platforms.base import (
    IgnoredWebhook,
    PaymentFinder,
    PlatformEvent,
    PlatformEventKind,
    ShopEvent,
)
from billing_stream.platforms.base import Platform as Adapter
from billing_stream.platforms.webhook_records import payload_of
from billing_stream.records.examples import CHARGE_ID, MERCHANT_ID
from billing_stream.records.invalid_fields import readable
from billing_stream.web.context import Context
from billing_stream.web.envelope import RATE_LIMITED, ApiError, WebCode, not_ready
from billing_stream.web.limits import read_body
from billing_stream.web.operation import About, Access, Answer, Call, Operation, operation
from billing_stream.web.owners import FindCharge
from billing_stream.web.refusals import Credential
from billing_stream.web.shop_webhooks import put_shop_event
from billing_stream.web.webhook_dead_letters import (
    NOT_UNDERSTOOD,
    InvalidWebhook,
    require_valid,
)
from billing_stream.web.webhook_inputs import NO_MERCHANT, Delivery, record_of, unrouted

logger = logging.getLogger(__name__)

# Platforms give up after 5 s.
ANSWER_SECONDS = 4.5

WEBHOOKS_PATH = "/webhooks/"
# The header with the signature.
SIGNATURES: Mapping[Platform, str] = MappingProxyType(
    {
        Platform.SHOPIFY: "X-Shopify-Hmac-Sha256",
        Platform.STRIPE: "Stripe-Signature",
        Platform.CUSTOM: custom.SIGNATURE,
    }
)


class WebhookBody(Struct, frozen=True):
    """The response to a webhook: `accepted` is false for types that this service does not read."""

    accepted: bool


class GatewayWebhookBody(custom.GatewayWebhook):
    """What a payment gateway of your own reports of a charge.

    Amounts are text or numbers. `kind` is one of:

    - updated (`status`: active, accepted, pending, declined, expired, cancelled, failed or frozen;
      `amount` and `currency`: what was paid);
    - refunded (`amount`: all that was refunded, or, with a `refund_id`, what this refund returned;
      without it, the whole);
    - refund_failed (`refund_id`, `amount`);
    - disputed (`dispute_id`; `status`: withdrawn, reinstated, won or lost; `amount`).

    Refunds and disputes are a share of `charge_amount`; without it, of what was asked for.
    """


async def _unknown(_: Context, __: web.Request) -> None:
    """Who sent it is known by the signature, which the adapter of the platform verifies."""


def webhook(
    platform: Platform, body: Any = dict[str, Any], body_examples: Mapping[str, Any] | None = None
) -> Operation:
    """The operation that takes the webhooks of a platform."""
    scheme = {"type": "apiKey", "in": "header", "name": SIGNATURES[platform]}
    signed = Access(
        verify=_unknown,
        codes=(WebCode.UNAUTHORIZED,),
        credential=Credential.WEBHOOK,
        scheme=platform.value,
        described=scheme,
    )

    @operation(
        "POST",
        WEBHOOKS_PATH + platform,
        signed,
        codes=(WebCode.NOT_FOUND, ErrorCode.TOO_MANY_REQUESTS),
        about=About(
            id=f"{platform}Webhook",
            tag="webhooks",
            summary=f"What {platform.capitalize()} reports of a charge",
            example=WebhookBody(True),
            body=body,
            body_examples=body_examples or {},
        ),
    )
    async def take_webhook(call: Call[None]) -> Answer[WebhookBody]:
        """Verify the webhook and put it on its topic; 200 when the brokers have it."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return Answer(WebhookBody(await _take(call, platform)))
        except TimeoutError:
            raise not_ready("it could not be taken in time; retry it") from None

    return take_webhook


_GATEWAY = {
    "paid": GatewayWebhookBody(CHARGE_ID, MERCHANT_ID, status="active"),
    "refunded": GatewayWebhookBody(
        CHARGE_ID, MERCHANT_ID, kind=PlatformEventKind.REFUNDED, amount=Decimal("4.99")
    ),
}
OPERATIONS = (
    webhook(Platform.SHOPIFY),
    webhook(Platform.STRIPE),
    webhook(Platform.CUSTOM, GatewayWebhookBody, _GATEWAY),
)


async def _take(call: Call[None], platform: Platform) -> bool:
    context, request = call.context, call.request
    adapter = context.platforms.get(platform)
    if adapter is None:
        raise ApiError(WebCode.NOT_FOUND, f"{platform} is not set up here")
    body = await read_body(request)
    invalid = None
    try:
        content = adapter.read_webhook(request.headers, body, datetime.now(UTC))
    except WebhookForged as error:
        raise ApiError(WebCode.UNAUTHORIZED, str(error)) from None
    except WebhookMalformed as error:
        invalid = InvalidWebhook.of(error)
    # What nobody signed must not use up the limit of those who sign.
    request[RATE_LIMITED] = context.webhook_limit.hit(platform)
    if invalid is None:
        if isinstance(content, PlatformEvent) and not (content.merchant_id or content.shop_domain):
            content = await _with_owner(adapter, content)
        if isinstance(content, ShopEvent):
            content = await put_shop_event(call, platform, content)
        if isinstance(content, IgnoredWebhook):
            if content.reason is not None:
                logger.info("a webhook %s of %s: %s", content.type, platform, content.reason)
            return False
        if isinstance(content, PlatformEvent):
            invalid = await _put_event(call, platform, content)
    if invalid is not None:
        await _divert(call, platform, body, invalid)
    return True


async def _put_event(
    call: Call[None], platform: Platform, content: PlatformEvent
) -> InvalidWebhook | None:
    """Write the record of a webhook about a charge; or why it would be invalid.

    A merchant that it names goes before the purchase that has its charge, and no shop decides.
    Where no purchase has it yet, the webhook waits for one on the partition of the charge.
    """
    merchant_id, shops = content.merchant_id, None
    if merchant_id is None:
        owners, charge = call.context.owners, charge_key(platform, content.charge_id)
        merchant_id = (await owners.read(FindCharge(charge), call.ids)).merchant_id
    if merchant_id is None:
        shops = await _merchant_of(call, platform, content.shop_domain)
    invalid = InvalidWebhook(
        kind=content.kind,
        shop=content.shop_domain,
        merchant_id=merchant_id or shops,
        delivery_id=content.delivery_id,
    )
    delivery = Delivery(platform, content.delivery_id, call.ids.correlation_id)
    payload = payload_of(content, merchant_id or NO_MERCHANT)
    try:
        record = record_of(delivery, payload, merchant_id or NO_MERCHANT)
        require_valid(record, call.context.max_record_bytes)
        if merchant_id is None:
            record = unrouted(delivery, payload, content.charge_id, shops)
            require_valid(record, call.context.max_record_bytes)
    except InvalidRecord as error:
        reason = readable(str(error))
        unknown = reason.startswith(ErrorCode.UNKNOWN_STATUS)
        return invalid.because(reason, ErrorCode.UNKNOWN_STATUS if unknown else NOT_UNDERSTOOD)
    await call.context.ingress.put(record)
    return None


async def _with_owner(adapter: Adapter, event: PlatformEvent) -> PlatformEvent | IgnoredWebhook:
    """Raises ApiError (NOT_READY) where the platform does not answer: it repeats the webhook."""
    if not isinstance(adapter, PaymentFinder):
        return IgnoredWebhook(event.kind)
    try:
        return await adapter.find_owner(event)
    except PlatformError as error:
        logger.warning("the merchant of payment %s is not known: %s", event.charge_id, error)
        raise not_ready(
            "the platform does not name the merchant of the payment; repeat the webhook"
        ) from None


async def _merchant_of(call: Call[None], platform: Platform, shop: str | None) -> str | None:
    """The merchant of a shop. Raises ApiError (NOT_READY) while that is not known."""
    if shop is None:
        return None
    return await call.context.owners.find_merchant(shop_key(platform, shop), call.ids)


async def _divert(
    call: Call[None], platform: Platform, body: bytes, invalid: InvalidWebhook
) -> None:
    if invalid.merchant_id is None:
        merchant_id = await _merchant_of(call, platform, invalid.shop)
        invalid = msgspec.structs.replace(invalid, merchant_id=merchant_id)
    letters = call.context.webhook_dead_letters
    if await letters.put(platform, body, invalid, call.ids.correlation_id):
        # Reasons name fields; that of a code may have words of the platform, too.
        known = invalid.reason if invalid.code == NOT_UNDERSTOOD else invalid.code
        logger.warning("a webhook of %s is a dead letter: %s", platform, known)
