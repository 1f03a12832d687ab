"""Webhooks about a shop: it uninstalled the app, or its data is to be erased.

Each is a command to the lane of the merchant that has the shop. That decides whether it is about
the present installation, because it alone knows.
"""

from billing_stream.domain.model import Platform
from billing_stream.observability.audit_log import audit
from billing_stream.platforms.base import IgnoredWebhook, ShopEvent
from billing_stream.platforms.webhook_records import payload_of
from billing_stream.web.operation import Call
from billing_stream.web.owners import FindShop
from billing_stream.web.webhook_inputs import Delivery, record_of


async def put_shop_event(
    call: Call[None], platform: Platform, event: ShopEvent
) -> ShopEvent | IgnoredWebhook:
    """Write the command of a webhook about a shop; ignored where no merchant has the shop.

    Raises ApiError (NOT_READY) while that is not known, or where Kafka may not have the command.
    """
    # Not from a cache: the shop may have another merchant by now.
    found = await call.context.owners.read(FindShop(event.shop), call.ids)
    merchant_id = found.merchant_id
    if merchant_id is None:
        call.context.metrics.webhooks_ignored.labels(platform, event.type).inc()
        return IgnoredWebhook(event.type, "no merchant has the shop")
    payload = payload_of(event, merchant_id)
    delivery = Delivery(platform, event.delivery_id, call.ids.correlation_id)
    await call.context.ingress.put(record_of(delivery, payload, merchant_id))
    action = payload.data["command"].removesuffix("_merchant")
    by, request_id = f"webhook:{platform}", call.ids.request_id
    audit(action, operator=by, request_id=request_id, merchant=merchant_id)
    return event
