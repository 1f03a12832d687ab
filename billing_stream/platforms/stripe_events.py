"""Events of Stripe that it could not deliver: it keeps them for 30 days.

https://docs.stripe.com/webhooks/process-undelivered-events
"""

from collections.abc import AsyncIterator
from datetime import datetime
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from billing_stream.errors import WebhookForged, WebhookMalformed
from billing_stream.platforms.base import PlatformEvent
from billing_stream.platforms.stripe import Stripe
from billing_stream.platforms.stripe_webhooks import read_event

PAGE = 100
PAGES_MAX = 1_000


class _Events(Struct):
    data: list[msgspec.Raw]
    has_more: bool = False


class _Id(Struct):
    id: str


async def undelivered(stripe: Stripe, since: datetime) -> AsyncIterator[PlatformEvent]:
    """Events of our purchases that no endpoint has acknowledged, newest first.

    At most the newest 100,000 events of the account. Raises PlatformError.
    """
    query = {"delivery_success": "false", "created[gte]": int(since.timestamp()), "limit": PAGE}
    last = None
    for _ in range(PAGES_MAX):
        more: dict[str, str] = {} if last is None else {"starting_after": last}
        found = await stripe.get(f"events?{urlencode({**query, **more})}", _Events)
        for raw in found.data:
            last = msgspec.json.decode(raw, type=_Id).id
            try:
                event = read_event(bytes(raw))
            except (WebhookForged, WebhookMalformed):
                continue
            if isinstance(event, PlatformEvent) and event.merchant_id is None:
                event = await stripe.find_owner(event)
            if isinstance(event, PlatformEvent):
                yield event
        if not found.has_more or last is None:
            return
