"""Webhooks of platforms: verified, written to their topic, and only then acknowledged.

Nothing is decided here. Duplicates and wrong order are harmless further on, where what counts
is the charge and its status, not the delivery. A webhook that is known to be invalid is written
to the dead letters, and never to an input topic.
"""

import asyncio
import logging
from datetime import UTC, datetime

import msgspec
from aiohttp import web
from msgspec import Struct

from billing_stream.domain.model import Platform
from billing_stream.errors import InvalidRecord, WebhookForged, WebhookMalformed
from billing_stream.observability.audit_log import audit
from billing_stream.platforms.base import ErasureRequest, IgnoredWebhook, PlatformEvent
from billing_stream.platforms.webhook_records import kind_of, payload_of
from billing_stream.records.invalid_fields import readable
from billing_stream.tables.codecs import shop_key
from billing_stream.web.bodies import read_body
from billing_stream.web.envelope import ApiError, Ids, WebCode, ids_of, not_ready, respond
from billing_stream.web.ingress import WebhookRecord
from billing_stream.web.queries import ReadMerchant
from billing_stream.web.refusals import Credential
from billing_stream.web.views import ApiView
from billing_stream.web.webhook_dead_letters import (
    MERCHANT_NOT_FOUND,
    NOT_UNDERSTOOD,
    InvalidWebhook,
    require_valid,
)

logger = logging.getLogger(__name__)

# Platforms give up after 5 s.
ANSWER_SECONDS = 4.5

WEBHOOKS_PATH = "/webhooks/{platform:shopify|stripe|custom}"


class WebhookBody(Struct, frozen=True):
    """The response to a webhook: `accepted` is false for types that this service does not read."""

    accepted: bool


class Webhooks(ApiView):
    """`/webhooks/{platform}`"""

    credential = Credential.WEBHOOK

    async def post(self, request: web.Request, platform: str) -> web.Response:
        """Verify the webhook and put it on its topic; 200 when the brokers have it."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                accepted = await self._take(request, Platform(platform))
        except TimeoutError:
            raise not_ready("it could not be taken in time; send it again") from None
        return respond(request, WebhookBody(accepted))

    async def _take(self, request: web.Request, platform: Platform) -> bool:
        adapter = self.context.platforms.get(platform)
        if adapter is None:
            raise ApiError(WebCode.NOT_FOUND, f"{platform} is not set up here")
        body, ids = await read_body(request), ids_of(request)
        invalid = None
        try:
            content = adapter.read_webhook(request.headers, body, datetime.now(UTC))
        except WebhookForged as error:
            raise ApiError(WebCode.UNAUTHORIZED, str(error)) from None
        except WebhookMalformed as error:
            invalid = InvalidWebhook.of(error)
        # What nobody signed must not use up the limit of those who sign.
        self.context.webhook_limit.hit(platform)
        if invalid is None:
            if isinstance(content, IgnoredWebhook):
                return False
            merchant_id = content.merchant_id if isinstance(content, PlatformEvent) else None
            if merchant_id is None:
                merchant_id = await self._merchant_of(platform, content.shop_domain, ids)
            if await self._is_outdated(content, merchant_id, ids):
                return False
            invalid = await self._put(platform, content, merchant_id, ids)
        if invalid is not None:
            await self._divert(platform, body, invalid, ids)
        return True

    async def _put(
        self,
        platform: Platform,
        content: PlatformEvent | ErasureRequest,
        merchant_id: str | None,
        ids: Ids,
    ) -> InvalidWebhook | None:
        """Write the record of a webhook; or why it would be invalid."""
        shop = content.shop_domain
        invalid = InvalidWebhook(
            kind=kind_of(content),
            shop=shop,
            merchant_id=content.merchant_id if isinstance(content, PlatformEvent) else None,
            delivery_id=content.delivery_id,
        )
        if merchant_id is None:
            reason = f"{MERCHANT_NOT_FOUND}: the shop {shop} has no merchant"
            return invalid.because(reason, MERCHANT_NOT_FOUND)
        payload = payload_of(content, merchant_id)
        record = WebhookRecord(
            topic=payload.topic,
            key=merchant_id.lower(),
            data=payload.data,
            correlation_id=ids.correlation_id,
            platform=platform,
            delivery_id=content.delivery_id,
        )
        try:
            require_valid(record, self.context.max_record_bytes)
        except InvalidRecord as error:
            return invalid.because(readable(str(error)))
        await self.context.ingress.put(record)
        if isinstance(content, ErasureRequest):
            by = f"webhook:{platform}"
            audit("forget", operator=by, request_id=ids.request_id, merchant=merchant_id)
        return None

    async def _is_outdated(
        self, content: PlatformEvent | ErasureRequest, merchant_id: str | None, ids: Ids
    ) -> bool:
        """Whether it asks to erase a shop that was installed again after the cause of that."""
        if not isinstance(content, ErasureRequest) or content.triggered_at is None:
            return False
        if merchant_id is None:
            return False
        merchant = (await self.context.owners.read(ReadMerchant(merchant_id), ids)).merchant
        created_at = None if merchant is None else merchant.created_at
        if created_at is None or created_at <= content.triggered_at:
            return False
        logger.warning(
            "merchant %s was installed after a request to erase it: nothing is erased", merchant_id
        )
        return True

    async def _merchant_of(self, platform: Platform, shop: str | None, ids: Ids) -> str | None:
        """The merchant of a shop. Raises ApiError (NOT_READY) while that is not known."""
        if shop is None:
            return None
        return await self.context.owners.find_merchant(shop_key(platform, shop), ids)

    async def _divert(
        self, platform: Platform, body: bytes, invalid: InvalidWebhook, ids: Ids
    ) -> None:
        if invalid.merchant_id is None and invalid.code != MERCHANT_NOT_FOUND:
            merchant_id = await self._merchant_of(platform, invalid.shop, ids)
            invalid = msgspec.structs.replace(invalid, merchant_id=merchant_id)
        letters = self.context.webhook_dead_letters
        if await letters.put(platform, body, invalid, ids.correlation_id):
            # Reasons name fields; that of a code names the shop, too.
            known = invalid.reason if invalid.code == NOT_UNDERSTOOD else invalid.code
            logger.warning("a webhook of %s is a dead letter: %s", platform, known)
