"""What every platform can do: open a checkout, and read its own webhooks."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from msgspec import Struct


class CheckoutRequest(Struct, frozen=True, kw_only=True):
    """A purchase that waits for payment.

    `amount` is decimal text in `currency` (ISO 4217, upper case), `title` is shown to the
    merchant, `return_url` is where the merchant goes afterwards, `cancel_url` where one goes who
    does not pay. It was opened at `created_at` and expires at `expires_at` (UTC).
    """

    merchant_id: str
    purchase_id: str
    shop_domain: str
    title: str
    credits: int
    amount: str
    currency: str
    return_url: str
    cancel_url: str
    created_at: datetime
    expires_at: datetime


class Checkout(Struct, frozen=True):
    """What a platform opened: its id of the charge, and the page on which it is paid.

    `test`: no money is taken for it.
    """

    charge_id: str
    url: str
    test: bool = False


class PlatformEventKind(StrEnum):
    """What a webhook can tell of a charge."""

    UPDATED = "updated"
    REFUNDED = "refunded"


class PlatformEvent(Struct, frozen=True, kw_only=True):
    """What a verified webhook says.

    `status` is a word of `evt.webhook.app.purchase_updated.v1`. Whose charge it is, either
    `merchant_id` says (we gave it to the platform) or `shop_domain`. `amount` is the whole
    amount refunded so far (decimal text). `delivery_id` is for audit only: a delivery sent
    again may have another one.
    """

    kind: PlatformEventKind
    charge_id: str
    status: str
    merchant_id: str | None = None
    shop_domain: str | None = None
    purchase_id: str | None = None
    amount: str | None = None
    delivery_id: str | None = None


class ErasureRequest(Struct, frozen=True, kw_only=True):
    """A verified webhook that asks to erase the personal data of a shop's merchant.

    `triggered_at` is when its cause was, None where an operator redrives it: a shop that was
    installed again since then keeps its data.
    """

    shop_domain: str
    delivery_id: str | None = None
    triggered_at: datetime | None = None


class IgnoredWebhook(Struct, frozen=True):
    """A verified webhook about something else; `type` is the platform's name of it, or empty."""

    type: str


ERASURE = "erasure"
"""The kind of an `ErasureRequest`; the others are those of `PlatformEventKind`."""

WebhookContent = PlatformEvent | ErasureRequest | IgnoredWebhook


class Platform(Protocol):
    """One payment platform."""

    async def create_checkout(self, purchase: CheckoutRequest) -> Checkout:
        """Open a checkout. Raises PlatformError when there is none after bounded retries.

        CheckoutRefused: the platform refuses what was asked for; TemporaryFailure: it may be
        opened later.
        """

    def read_webhook(
        self, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> WebhookContent:
        """The content of a webhook.

        `headers` are read in any letter case, `body` is raw. Raises WebhookForged, and
        WebhookMalformed.
        """

    async def close(self) -> None:
        """Close the connections."""
