"""One look-up: what a platform says of a purchase's charge, and the record of that."""

from billing_stream.domain.model import Merchant, Platform, Purchase, PurchaseStatus
from billing_stream.platforms.base import ChargeQuery, FoundCharge, PlatformEvent
from billing_stream.platforms.webhook_records import payload_of
from billing_stream.web.ingress import WebhookRecord
from billing_stream.web.webhook_dead_letters import require_valid

CREDITED = (PurchaseStatus.COMPLETED, PurchaseStatus.REFUNDED)


def query_of(purchase: Purchase, merchant: Merchant | None) -> ChargeQuery | None:
    """What its platform can be asked; None where there is no charge, merchant or Shopify shop."""
    if purchase.platform_charge_id is None or merchant is None:
        return None
    if purchase.platform is Platform.SHOPIFY and not merchant.domain:
        return None
    return ChargeQuery(
        merchant_id=purchase.merchant_id,
        purchase_id=purchase.id,
        charge_id=purchase.platform_charge_id,
        shop_domain=merchant.domain,
    )


def record_of(
    purchase: Purchase, found: FoundCharge, max_record_bytes: int
) -> WebhookRecord | None:
    """The record that the charge's webhook would make; None while it says nothing new.

    Raises InvalidRecord where a lane would make a dead letter of it.
    """
    event = found.event
    if event is None or purchase.status in CREDITED:
        return None
    if not found.paid and purchase.status is not PurchaseStatus.PENDING:
        return None
    return record_of_event(purchase, event, max_record_bytes)


def record_of_event(
    purchase: Purchase, event: PlatformEvent, max_record_bytes: int
) -> WebhookRecord:
    """The record of an event about this purchase. Raises InvalidRecord as `record_of` does."""
    payload = payload_of(event, purchase.merchant_id)
    record = WebhookRecord(
        topic=payload.topic,
        key=purchase.merchant_id,
        data=payload.data,
        correlation_id=f"reconcile/{purchase.id}",
        platform=purchase.platform,
        delivery_id=event.delivery_id,
    )
    require_valid(record, max_record_bytes)
    return record


def is_of(found: FoundCharge, query: ChargeQuery) -> bool:
    """Whether the answer is about the charge that was asked for, as far as it says so."""
    event = found.event
    if event is None:
        return True
    merchant_id = (event.merchant_id or query.merchant_id).lower()
    return event.charge_id == query.charge_id and merchant_id == query.merchant_id


def limit_of(platform: Platform, query: ChargeQuery) -> str:
    """What the platform's rate limit is for: Shopify's a shop, that of others the account."""
    return f"{platform}:{query.shop_domain if platform is Platform.SHOPIFY else ''}"
