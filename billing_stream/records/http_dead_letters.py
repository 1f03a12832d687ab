"""Dead letters of webhooks over HTTP: no input topic has them, and no lane has read them.

Their place is `http:{platform}` and the id of the delivery, their value the body as it came.
"""

import hashlib
import re
from datetime import datetime

from msgspec import Struct

from billing_stream.records.dead_letters import DeadLetter

PLACE = "http:"
NOWHERE = -1

_PLATFORM = "platform"
_DELIVERY = "delivery"
_KIND = "kind"
_SHOP = "shop"
_CORRELATION_ID = "correlation_id"
# It is shown beside references of records and in addresses.
_ID = re.compile(r"[A-Za-z0-9._:~-]{1,128}")


class HttpDelivery(Struct, frozen=True, kw_only=True):
    """A delivery over HTTP; `kind`, `shop` and `merchant_id` as far as they are known.

    `received_at` is the time of its dead letter, once there is one.
    """

    platform: str
    delivery_id: str
    kind: str | None = None
    shop: str | None = None
    merchant_id: str | None = None
    received_at: datetime | None = None

    def __str__(self) -> str:
        return f"{PLACE}{self.platform}/{self.delivery_id}"


def delivery_id_of(named: str | None, body: bytes) -> str:
    """The platform's id of a delivery; without one, or with an odd one, a digest of the body."""
    if named is not None and _ID.fullmatch(named):
        return named
    return f"sha256:{hashlib.sha256(body).hexdigest()[:16]}"


def dead_letter_of_webhook(
    delivery: HttpDelivery, body: bytes, reason: str, *, correlation_id: str, now: datetime
) -> DeadLetter:
    """The dead letter of an invalid webhook; its key is the merchant, where it is known."""
    named = (
        (_PLATFORM, delivery.platform),
        (_DELIVERY, delivery.delivery_id),
        (_KIND, delivery.kind),
        (_SHOP, delivery.shop),
        (_CORRELATION_ID, correlation_id),
    )
    return DeadLetter(
        topic=PLACE + delivery.platform,
        partition=NOWHERE,
        offset=NOWHERE,
        timestamp=now,
        key=delivery.merchant_id.encode() if delivery.merchant_id is not None else None,
        value=body,
        headers=[(name, text.encode()) for name, text in named if text is not None],
        reason=reason,
    )


def http_delivery(letter: DeadLetter) -> HttpDelivery | None:
    """The delivery of which this is the dead letter, or None where it is one of a record."""
    if not letter.topic.startswith(PLACE):
        return None
    named = {name: (held or b"").decode("utf-8", "replace") for name, held in letter.headers}
    return HttpDelivery(
        platform=letter.topic.removeprefix(PLACE),
        delivery_id=named.get(_DELIVERY, ""),
        kind=named.get(_KIND),
        shop=named.get(_SHOP),
        merchant_id=letter.key.decode("utf-8", "replace") if letter.key is not None else None,
        received_at=letter.timestamp,
    )
