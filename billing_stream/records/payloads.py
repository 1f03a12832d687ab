"""The payloads of the topics that other services write. Amounts are numbers or text."""

from decimal import Decimal
from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from billing_stream.domain.commands import Text, Uuid
from billing_stream.domain.reports import DisputeStatus

CurrencyIn = Annotated[
    str, Meta(pattern=r"^[a-zA-Z]{3}\Z", description="a code of ISO 4217, in any letter case")
]


# Read by records/installations.py: what is invalid is unknown, and no dead letter.
ShopIdIn = Annotated[
    Raw,
    Meta(
        description="the platform's own id of the shop; a number is read as its text",
        extra_json_schema={"anyOf": [{"type": kind} for kind in ("string", "integer", "null")]},
    ),
]
InstalledAtIn = Annotated[
    Raw,
    Meta(
        description="when it was installed; without a time zone in UTC",
        extra_json_schema={"type": ["string", "null"], "format": "date-time"},
    ),
]


class MerchantCreated(Struct, frozen=True, gc=False):
    """`evt.merchant.created.v1`. Name and email are not read, so they cannot leak.

    `domain` is a host name, or an address with one. Without it, or without the name of a platform,
    the record is a dead letter, and the merchant has no shop.

    A `platform_shop_id` or `installed_at` that cannot be read is taken as unknown: the installation
    counts, with a warning where it replaces another merchant's.
    """

    merchant_id: Uuid
    platform_name: str | None = None
    domain: str | None = None
    platform_shop_id: ShopIdIn | UnsetType = UNSET
    installed_at: InstalledAtIn | UnsetType = UNSET


class PurchaseUpdated(Struct, frozen=True, gc=False):
    """`evt.webhook.app.purchase_updated.v1`.

    `status` is accepted or active (paid), pending, or declined, expired, cancelled, failed or
    frozen. `amount` is what was paid, where that is known: less than was asked for, or another
    `currency`, is a dead letter.
    """

    merchant_id: Uuid
    charge_id: Text
    status: Annotated[str, Meta(min_length=1, max_length=64)]
    amount: Decimal | None = None
    currency: CurrencyIn | None = None


class PurchaseRefundedIn(Struct, frozen=True, gc=False):
    """`evt.webhook.app.purchase_refunded.v1`.

    `amount` is all that was refunded so far, or, with a `refund_id`, what this refund returned;
    without it, the whole. It is a share of `charge_amount`, in whatever `currency`; without these,
    of the amount of the purchase.
    """

    merchant_id: Uuid
    charge_id: Text
    purchase_id: Uuid | None = None
    amount: Decimal | None = None
    refund_id: Text | None = None
    charge_amount: Decimal | None = None
    currency: CurrencyIn | None = None


class RefundFailedIn(Struct, frozen=True, gc=False):
    """`evt.webhook.app.refund_failed.v1`: a refund failed or was cancelled.

    `amount` is that of the refund, in the currency of the charge.
    """

    merchant_id: Uuid
    charge_id: Text
    refund_id: Text
    purchase_id: Uuid | None = None
    amount: Decimal | None = None


class PurchaseDisputedIn(Struct, frozen=True, gc=False):
    """`evt.webhook.app.purchase_disputed.v1`: money was withdrawn for a dispute, or it was closed.

    `amount` is a share of `charge_amount`, as that of a refund; without it, the whole.
    """

    merchant_id: Uuid
    charge_id: Text
    dispute_id: Text
    status: DisputeStatus
    purchase_id: Uuid | None = None
    amount: Decimal | None = None
    charge_amount: Decimal | None = None
    currency: CurrencyIn | None = None
