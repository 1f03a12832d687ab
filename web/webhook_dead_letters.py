"""Invalid webhooks, written to the dead letters by the worker that received them."""

import hashlib
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Self

import msgspec
from msgspec import Struct

from billing_stream.domain.model import Platform
from billing_stream.errors import WebhookMalformed
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.records import schemas
from billing_stream.records.commands_in import require_acceptable
from billing_stream.records.http_dead_letters import (
    PLACE,
    HttpDelivery,
    dead_letter_of_webhook,
    delivery_id_of,
)
from billing_stream.web.ingress import Ingress, WebhookRecord

# Platforms repeat a delivery within minutes when its response was lost.
DELIVERIES_KEPT_MAX = 10_000
NOT_UNDERSTOOD = "NOT_UNDERSTOOD"


class InvalidWebhook(Struct, frozen=True, kw_only=True):
    """Why a webhook is invalid, and what it names; None where it does not."""

    reason: str = ""
    code: str = NOT_UNDERSTOOD
    kind: str | None = None
    shop: str | None = None
    merchant_id: str | None = None
    delivery_id: str | None = None

    @classmethod
    def of(cls, error: WebhookMalformed) -> Self:
        """A webhook that its platform's adapter could not read."""
        return cls(
            reason=str(error),
            kind=error.kind,
            shop=error.shop_domain,
            merchant_id=error.merchant_id,
            delivery_id=error.delivery_id,
        )

    def because(self, reason: str, code: str = NOT_UNDERSTOOD) -> Self:
        """The same, with this reason."""
        return msgspec.structs.replace(self, reason=reason, code=code)


class _Candidate(Struct):
    """A record, before it is one."""

    topic: str
    value: bytes | None
    timestamp: int
    key: bytes | None = None
    headers: schemas.Headers = ()
    partition: int = 0
    offset: int = 0


def require_valid(record: WebhookRecord, max_bytes: int) -> None:
    """Raises InvalidRecord where a lane would make a dead letter of the record."""
    now = datetime.now(UTC)
    candidate = _Candidate(record.topic, record.value(now), int(now.timestamp() * 1000))
    require_acceptable(schemas.decode(record.topic, candidate, max_bytes).payload)


class WebhookDeadLetters:
    """Writes dead letters of webhooks, one for a delivery that is repeated to this worker."""

    def __init__(self, ingress: Ingress, metrics: WorkerMetrics) -> None:
        self._ingress = ingress
        self._dead_letters = metrics.dead_letters
        self._written: OrderedDict[tuple[str, str, bytes], None] = OrderedDict()

    async def put(
        self, platform: Platform, body: bytes, invalid: InvalidWebhook, correlation_id: str
    ) -> bool:
        """Write the dead letter; False where this delivery has one.

        Raises ApiError (NOT_READY) when the brokers may not have it.
        """
        merchant_id = invalid.merchant_id.lower() if invalid.merchant_id is not None else None
        delivery = HttpDelivery(
            platform=platform,
            delivery_id=delivery_id_of(invalid.delivery_id, body),
            kind=invalid.kind,
            shop=invalid.shop,
            merchant_id=merchant_id,
        )
        # Stripe signs the id of an event, and a repeated one differs in other fields. Shopify
        # does not sign its id: another body under it is another webhook.
        signed = platform is Platform.STRIPE and invalid.delivery_id is not None
        digest = b"" if signed else hashlib.sha256(body).digest()
        repeated = (platform.value, delivery.delivery_id, digest)
        if repeated in self._written:
            return False
        letter = dead_letter_of_webhook(
            delivery,
            body,
            invalid.reason,
            correlation_id=correlation_id,
            now=datetime.now(UTC),
        )
        await self._ingress.put_dead_letter(letter, delivery)
        self._written[repeated] = None
        if len(self._written) > DELIVERIES_KEPT_MAX:
            self._written.popitem(last=False)
        self._dead_letters.labels(PLACE + platform, invalid.code).inc()
        return True
