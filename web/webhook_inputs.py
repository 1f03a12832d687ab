"""Input records of webhooks that came over HTTP: of a merchant, or of a charge without one."""

import msgspec
from msgspec import Struct

from billing_stream.platforms.webhook_records import Payload
from billing_stream.records import topics
from billing_stream.records.charge_records import UnroutedWebhook
from billing_stream.web.ingress import WebhookRecord

NO_MERCHANT = "00000000-0000-4000-8000-000000000000"
"""Takes the place of a merchant in a record that is checked before its merchant is known."""


class Delivery(Struct, frozen=True):
    """Which delivery of which platform; the ids are for audit."""

    platform: str
    delivery_id: str | None
    correlation_id: str


def record_of(delivery: Delivery, payload: Payload, merchant_id: str) -> WebhookRecord:
    """The record of a webhook of this merchant."""
    return WebhookRecord(
        topic=payload.topic,
        key=merchant_id.lower(),
        data=payload.data,
        correlation_id=delivery.correlation_id,
        platform=delivery.platform,
        delivery_id=delivery.delivery_id,
    )


def unrouted(
    delivery: Delivery, payload: Payload, charge_id: str, merchant_id: str | None
) -> WebhookRecord:
    """The record of a webhook of a charge that no purchase has registered.

    `merchant_id` is that of its shop, where it has one.
    """
    data = {name: value for name, value in payload.data.items() if name != "merchant_id"}
    said = UnroutedWebhook(delivery.platform, charge_id, payload.topic, data, merchant_id)
    return WebhookRecord(
        topic=topics.CHARGES,
        key=said.charge,
        data=msgspec.to_builtins(said),
        correlation_id=delivery.correlation_id,
        platform=delivery.platform,
        delivery_id=delivery.delivery_id,
        record_key=said.key_of(delivery.correlation_id),
    )
