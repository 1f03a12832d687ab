"""What platforms tell us: verified, put on the webhook topic, and only then acknowledged.

Nothing is decided here. Duplicates and wrong order are harmless further on, where what counts
is the charge and its status, not the delivery.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from msgspec import Struct

from billing_stream.domain.model import Platform
from billing_stream.errors import WebhookForged, WebhookMalformed
from billing_stream.platforms.base import PlatformEvent, PlatformEventKind
from billing_stream.records import topics as names
from billing_stream.tables.codecs import shop_key
from billing_stream.web.bodies import read_body
from billing_stream.web.envelope import ApiError, Ids, WebCode, ids_of, not_ready, respond
from billing_stream.web.ingress import WebhookRecord
from billing_stream.web.views import ApiView

logger = logging.getLogger(__name__)

# Platforms give up after 5 s.
ANSWER_SECONDS = 4.5

WEBHOOKS_PATH = "/webhooks/{platform:shopify|stripe|custom}"

_TOPICS = {
    PlatformEventKind.UPDATED: names.PURCHASE_UPDATED,
    PlatformEventKind.REFUNDED: names.PURCHASE_REFUNDED,
}


class WebhookBody(Struct, frozen=True):
    """The answer to a webhook; one that is about nothing of ours is not accepted."""

    accepted: bool


class Webhooks(ApiView):
    """`/webhooks/{platform}`"""

    async def post(self, request: web.Request, platform: str) -> web.Response:
        """Verify the webhook and put it on its topic; 200 when the brokers have it."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._take(request, platform)
        except TimeoutError:
            raise not_ready("it could not be taken in time; send it again") from None

    async def _take(self, request: web.Request, platform: str) -> web.Response:
        name = Platform(platform)
        adapter = self.context.platforms.get(name)
        if adapter is None:
            raise ApiError(WebCode.NOT_FOUND, f"{platform} is not set up here")
        body = await read_body(request)
        try:
            told = adapter.read_webhook(request.headers, body, datetime.now(UTC))
        except WebhookForged as error:
            raise ApiError(WebCode.UNAUTHORIZED, str(error)) from None
        except WebhookMalformed as error:
            logger.error("a webhook of %s is not understood: %s", platform, error)
            record = not_understood(name, body, str(error), ids_of(request))
        else:
            if told is None:
                return respond(request, WebhookBody(accepted=False))
            record = await self._record(name, told, ids_of(request))
        await self.context.ingress.put(record)
        return respond(request, WebhookBody(accepted=True))

    async def _record(self, platform: Platform, told: PlatformEvent, ids: Ids) -> WebhookRecord:
        merchant_id = told.merchant_id
        shop = shop_key(platform, told.shop_domain or "")
        if merchant_id is None:
            merchant_id = await self.context.owners.find_merchant(shop, ids)
        data: dict[str, Any] = {"merchant_id": merchant_id, "charge_id": told.charge_id}
        if told.kind is PlatformEventKind.UPDATED:
            data["status"] = told.status
        if told.purchase_id is not None:
            data["purchase_id"] = told.purchase_id
        if told.amount is not None:
            data["amount"] = told.amount
        if merchant_id is None:
            # Not understood further on, and so kept as a dead letter that says whose it is.
            logger.warning("a webhook of %s is about a shop that has no merchant", platform)
            data["shop"] = shop
        return WebhookRecord(
            topic=_TOPICS[told.kind],
            key=merchant_id or shop,
            data=data,
            correlation_id=ids.correlation_id,
            platform=platform,
            delivery_id=told.delivery_id,
        )


def not_understood(platform: Platform, body: bytes, reason: str, ids: Ids) -> WebhookRecord:
    """A record that the lanes will divert to the dead letters: refused, it would be lost."""
    return WebhookRecord(
        topic=names.PURCHASE_UPDATED,
        key=platform,
        data={
            "merchant_id": None,
            "reason": reason,
            "body": body.decode("utf-8", "backslashreplace"),
        },
        correlation_id=ids.correlation_id,
        platform=platform,
    )
