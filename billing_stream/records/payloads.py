"""The payloads of the topics that other services write."""

from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

from billing_stream.domain.commands import Text, Uuid


class MerchantCreated(Struct, frozen=True, gc=False):
    """`evt.merchant.created.v1`. Name and email are not read, so they cannot leak."""

    merchant_id: Uuid
    platform_name: Text
    domain: Text


class PurchaseUpdated(Struct, frozen=True, gc=False):
    """`evt.webhook.app.purchase_updated.v1`."""

    merchant_id: Uuid
    charge_id: Text
    status: Annotated[str, Meta(min_length=1, max_length=64)]


class PurchaseRefundedIn(Struct, frozen=True, gc=False):
    """`evt.webhook.app.purchase_refunded.v1`.

    `amount`, a number or text, is all that was refunded so far; without it, the whole.
    """

    merchant_id: Uuid
    charge_id: Text
    purchase_id: Uuid | None = None
    amount: Decimal | None = None
