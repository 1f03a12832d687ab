"""What every platform can do: open a checkout, and read its own webhooks."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

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
    """What a webhook can report of a charge."""

    UPDATED = "updated"
    REFUNDED = "refunded"
    REFUND_FAILED = "refund_failed"
    DISPUTED = "disputed"


class PlatformEvent(Struct, frozen=True, kw_only=True):
    """What a verified webhook says.

    `status` is a word of `evt.webhook.app.purchase_updated.v1`, or that of a dispute. Its owner
    is named by `merchant_id` (we gave it to the platform) or `shop_domain`, or else the platform
    knows it (`PaymentFinder`). Amounts (decimal text) are as in the payload of the topic.
    `delivery_id` is for audit only: a repeated delivery may have another one.
    """

    kind: PlatformEventKind
    charge_id: str
    status: str
    merchant_id: str | None = None
    shop_domain: str | None = None
    purchase_id: str | None = None
    amount: str | None = None
    currency: str | None = None
    charge_amount: str | None = None
    refund_id: str | None = None
    dispute_id: str | None = None
    delivery_id: str | None = None


class ChargeQuery(Struct, frozen=True, kw_only=True):
    """A charge to be looked up, with its purchase and merchant."""

    merchant_id: str
    purchase_id: str
    charge_id: str
    shop_domain: str


LOOKED_UP = "reconcile"
"""The delivery of what was not delivered, but looked up."""

PAID = frozenset({"active", "accepted"})
FAILED = frozenset({"declined", "expired", "cancelled", "failed", "frozen"})


class FoundCharge(Struct, frozen=True, kw_only=True):
    """What a platform answers about a charge.

    `event` is what its webhook would say, None while the charge is open. `amount` (decimal text)
    and `currency` (ISO 4217) are those of the charge, None where the platform does not say them.
    """

    event: PlatformEvent | None = None
    amount: str | None = None
    currency: str | None = None

    @classmethod
    def of(
        cls, event: PlatformEvent, amount: str | None = None, currency: str | None = None
    ) -> "FoundCharge":
        """From what its webhook would say: a word that is not final leaves the charge open."""
        final = event.status.strip().lower() in PAID | FAILED
        return cls(event=event if final else None, amount=amount, currency=currency)

    @property
    def paid(self) -> bool:
        """Whether the money was taken."""
        return self.event is not None and self.event.status.strip().lower() in PAID

    @property
    def outcome(self) -> str:
        """What it counts as in metrics."""
        return "paid" if self.paid else "open" if self.event is None else "failed"


class ShopEventKind(StrEnum):
    """What a webhook can report of a shop. Values are in dead letters, and distinct from those of
    `PlatformEventKind`.
    """

    UNINSTALLED = "uninstall"
    ERASURE = "erasure"


class ShopEvent(Struct, frozen=True, kw_only=True):
    """A verified webhook about a shop: it uninstalled the app, or its data is to be erased.

    `shop` is `platform:domain`, `type` the platform's name of the webhook. `triggered_at` is when
    that happened: a shop that was installed again since then is left alone.
    """

    kind: ShopEventKind
    shop: str
    type: str = ""
    delivery_id: str | None = None
    triggered_at: datetime | None = None


class IgnoredWebhook(Struct, frozen=True):
    """A verified webhook about something else; `type` is the platform's name of it, or empty.

    `reason` is why one that must be answered changes nothing.
    """

    type: str
    reason: str | None = None


WebhookContent = PlatformEvent | ShopEvent | IgnoredWebhook


class Platform(Protocol):
    """One payment platform."""

    @property
    def looks_up(self) -> bool:
        """Whether `find_charge` asks anybody."""

    async def find_charge(self, query: ChargeQuery) -> FoundCharge | None:
        """What the platform knows of a charge; None: nothing, or it cannot be asked.

        At most a minute, with repetitions and what `Retry-After` demands. Raises PlatformError.
        """

    async def create_checkout(self, purchase: CheckoutRequest) -> Checkout:
        """Open a checkout. Raises PlatformError when it fails after bounded retries.

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


@runtime_checkable
class PaymentFinder(Protocol):
    """A platform that sends webhooks without the merchant of their payment."""

    async def find_owner(self, event: PlatformEvent) -> PlatformEvent | IgnoredWebhook:
        """The webhook with its merchant; ignored where it is another system's payment.

        Raises PlatformError.
        """
