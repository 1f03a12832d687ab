"""What can be asked of the domain. Commands are verbs; each names its merchant.

`command_id` is unique to the one asking: the record's place, or the request's own id.
"""

from typing import Annotated

from msgspec import Meta, Struct

from billing_stream.domain.model import Platform

UUID_TEXT = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z"
Uuid = Annotated[str, Meta(pattern=UUID_TEXT)]
Text = Annotated[str, Meta(min_length=1, max_length=255)]
# No control characters: keys stand in headers, changelog keys and PostgreSQL.
Key = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
# No sign, no exponent: what a person would write.
AMOUNT_TEXT = r"^[0-9]{1,12}(\.[0-9]{1,6})?\Z"
Amount = Annotated[str, Meta(pattern=AMOUNT_TEXT)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]


class CreateMerchant(Struct, frozen=True, gc=False, tag="create_merchant", tag_field="command"):
    """Create the billing record; for a known merchant, register a changed domain only."""

    merchant_id: Uuid
    platform: Text
    domain: Text
    command_id: str = ""


class StartTrial(Struct, frozen=True, gc=False, tag="start_trial", tag_field="command"):
    """Start the free trial; once per merchant, for ever."""

    merchant_id: Uuid
    idempotency_key: Key | None = None
    command_id: str = ""


class ReservePurchase(Struct, frozen=True, gc=False, tag="reserve_purchase", tag_field="command"):
    """Open a pending purchase of a pack, before the platform is asked for a checkout."""

    merchant_id: Uuid
    pack: Text
    platform: Platform
    return_url: Url = "/"
    idempotency_key: Key | None = None
    command_id: str = ""


class AttachCharge(Struct, frozen=True, gc=False, tag="attach_charge", tag_field="command"):
    """Tie the platform's charge to a purchase; what was parked for it applies now."""

    merchant_id: Uuid
    purchase_id: Uuid
    charge_id: Text
    checkout_url: Url
    command_id: str = ""


class FailPurchase(Struct, frozen=True, gc=False, tag="fail_purchase", tag_field="command"):
    """The platform gave no checkout: a pending purchase without one is failed."""

    merchant_id: Uuid
    purchase_id: Uuid
    reason: Text
    command_id: str = ""


class UpdateCharge(Struct, frozen=True, gc=False, tag="update_charge", tag_field="command"):
    """A platform's webhook: the charge has this status now (any letter case)."""

    merchant_id: Uuid
    charge_id: Text
    status: Text
    command_id: str = ""


class RefundCharge(Struct, frozen=True, gc=False, tag="refund_charge", tag_field="command"):
    """A platform's webhook: the charge was paid back.

    `purchase_id`, where the platform knows it, goes before `charge_id`. `amount` is all that
    was paid back so far (decimal text); without it, the whole.
    """

    merchant_id: Uuid
    charge_id: Text
    command_id: str = ""
    purchase_id: Uuid | None = None
    amount: Amount | None = None


class PassTime(Struct, frozen=True, gc=False, tag="pass_time", tag_field="command"):
    """Nothing but the time: what fell due by now happens."""

    merchant_id: Uuid
    command_id: str = ""


Command = (
    CreateMerchant
    | StartTrial
    | ReservePurchase
    | AttachCharge
    | FailPurchase
    | UpdateCharge
    | RefundCharge
    | PassTime
)
