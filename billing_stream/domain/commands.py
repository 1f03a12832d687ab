"""What can be asked of the domain. Commands are verbs; each names its merchant.

`command_id` is unique to the one asking: the record's reference, or the request's own id.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from billing_stream.domain.model import Instant, Platform
from billing_stream.domain.reports import DisputeStatus

UUID_TEXT = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z"
Uuid = Annotated[str, Meta(pattern=UUID_TEXT)]
Text = Annotated[str, Meta(min_length=1, max_length=255)]
# No control characters: keys stand in headers, changelog keys and PostgreSQL.
Key = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
# Shown to the merchant.
Note = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern=r"^[^\x00-\x1f\x7f]+\Z",
        description="what the merchant reads of it in its history",
    ),
]
# No sign, no exponent: what a person would write.
AMOUNT_TEXT = r"^[0-9]{1,12}(\.[0-9]{1,6})?\Z"
Amount = Annotated[str, Meta(pattern=AMOUNT_TEXT)]
PositiveAmount = Annotated[str, Meta(pattern="^(?=.*[1-9])" + AMOUNT_TEXT[1:])]
# ISO 4217, in capitals.
Currency = Annotated[
    str, Meta(pattern=r"^[A-Z]{3}\Z", description="of the amount, a code of ISO 4217")
]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]
# In one command: far below what a record may have in bytes.
OLD_PURCHASES_MAX = 100
# So that a slip of the finger is refused: more takes more than one.
ADJUSTMENT_MAX = 1_000_000
Adjusted = Annotated[
    int,
    Meta(
        ge=-ADJUSTMENT_MAX,
        le=ADJUSTMENT_MAX,
        description="whole credits, up or down, not 0",
        extra_json_schema={"not": {"const": 0}},
    ),
]


# Ten years: an end is never further away.
TRIAL_DAYS_MAX = 3_653
Days = Annotated[int, Meta(ge=1, le=TRIAL_DAYS_MAX, description="whole days")]


class CreateMerchant(Struct, frozen=True, gc=False, tag="create_merchant", tag_field="command"):
    """Create the billing record; for a known merchant, register a changed shop only.

    `platform_shop_id` is the platform's own id of the shop, `installed_at` when it was installed:
    an older installation changes nothing. None: unknown. Without the name of a platform and of a
    host it is a dead letter, and the merchant has no shop.
    """

    merchant_id: Uuid
    platform: str
    domain: str
    command_id: str = ""
    platform_shop_id: Text | None = None
    installed_at: Instant | None = None


class StartTrial(Struct, frozen=True, gc=False, tag="start_trial", tag_field="command"):
    """Start the free trial; once per merchant."""

    merchant_id: Uuid
    idempotency_key: Key | None = None
    command_id: str = ""


class AnswerTrialClaim(
    Struct, frozen=True, gc=False, tag="answer_trial_claim", tag_field="command"
):
    """The owner of a shop says whether its trial is this merchant's. Only workers write it."""

    merchant_id: Uuid
    shop: Text
    granted: bool
    command_id: str = ""


class ReservePurchase(Struct, frozen=True, gc=False, tag="reserve_purchase", tag_field="command"):
    """Open a pending purchase of a pack, before the platform is asked for a checkout.

    Without a `currency` its price is that in BILLING_CURRENCY, without a `cancel_url` the merchant
    goes to `return_url` whether it pays or not.
    """

    merchant_id: Uuid
    pack: Text
    platform: Platform
    return_url: Url = "/"
    idempotency_key: Key | None = None
    command_id: str = ""
    currency: Currency | None = None
    cancel_url: Url | UnsetType | None = UNSET


class AttachCharge(Struct, frozen=True, gc=False, tag="attach_charge", tag_field="command"):
    """Tie the platform's charge to a purchase; what was parked for it applies now.

    `test`: the platform takes no money for this charge.
    """

    merchant_id: Uuid
    purchase_id: Uuid
    charge_id: Text
    checkout_url: Url
    command_id: str = ""
    test: bool = False


class FailPurchase(Struct, frozen=True, gc=False, tag="fail_purchase", tag_field="command"):
    """The platform gave no checkout: a pending purchase without one is failed."""

    merchant_id: Uuid
    purchase_id: Uuid
    reason: Text
    command_id: str = ""


class UpdateCharge(Struct, frozen=True, gc=False, tag="update_charge", tag_field="command"):
    """A platform's webhook: the charge has this status now (any letter case).

    `amount` is what was paid, where the platform states it; without a `currency` it is in that of
    the purchase.
    """

    merchant_id: Uuid
    charge_id: Text
    status: Text
    command_id: str = ""
    amount: Amount | None = None
    currency: Currency | None = None


class RefundCharge(Struct, frozen=True, gc=False, tag="refund_charge", tag_field="command"):
    """A platform's webhook: the charge was refunded.

    `purchase_id`, where the platform knows it, goes before `charge_id`. `amount` is the sum of all
    its refunds so far, or, with a `refund_id`, that of this one; without it, the whole. It is a
    share of `charge_amount`, in whatever `currency`; without these two, of the purchase's amount.
    """

    merchant_id: Uuid
    charge_id: Text
    command_id: str = ""
    purchase_id: Uuid | None = None
    amount: Amount | None = None
    refund_id: Text | None = None
    charge_amount: PositiveAmount | None = None
    currency: Currency | None = None


class FailRefund(Struct, frozen=True, gc=False, tag="fail_refund", tag_field="command"):
    """A platform's webhook: this refund failed or was cancelled, and its money did not leave.

    `amount` is that of the refund, in the currency of the charge; without it, all that was refunded
    and has no id of its own.
    """

    merchant_id: Uuid
    charge_id: Text
    refund_id: Text
    command_id: str = ""
    purchase_id: Uuid | None = None
    amount: Amount | None = None


class DisputeCharge(Struct, frozen=True, gc=False, tag="dispute_charge", tag_field="command"):
    """A platform's webhook: money of the charge was withdrawn for a dispute, or the dispute closed.

    `amount` is a share of `charge_amount`, as that of a refund; without it, the whole.
    """

    merchant_id: Uuid
    charge_id: Text
    dispute_id: Text
    status: DisputeStatus
    command_id: str = ""
    purchase_id: Uuid | None = None
    amount: Amount | None = None
    charge_amount: PositiveAmount | None = None
    currency: Currency | None = None


class AdvanceTime(
    Struct, frozen=True, omit_defaults=True, gc=False, tag="pass_time", tag_field="command"
):
    """Nothing but the time: what fell due by now happens.

    `most` makes it one step of several: at most that number of purchases expire, the soonest
    first, and nothing of the merchant that fell due after them happens yet.
    """

    merchant_id: Uuid
    command_id: str = ""
    most: Annotated[int, Meta(ge=1)] | None = None


class AdjustCredits(
    Struct, frozen=True, omit_defaults=True, gc=False, tag="adjust_credits", tag_field="command"
):
    """An operator adds or removes credits; once per key, permanently.

    The reason is internal, and published for other services, so it names no person. Merchants
    read `merchant_note` only.
    """

    merchant_id: Uuid
    credits: Adjusted
    reason: Text
    idempotency_key: Key
    command_id: str = ""
    merchant_note: Note | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for an adjustment of nothing."""
        if self.credits == 0:
            raise ValueError("credits must not be 0")


class ExtendTrial(
    Struct, frozen=True, omit_defaults=True, gc=False, tag="extend_trial", tag_field="command"
):
    """An operator moves the end of a trial, or begins a new period of one that has ended.

    Either to `ends_at`, or by `days` from the later of its end and now; once per key, permanently.
    The reason is internal and names no person. Merchants read `merchant_note` only.
    """

    merchant_id: Uuid
    reason: Text
    idempotency_key: Key
    ends_at: Instant | None = None
    days: Days | None = None
    merchant_note: Note | None = None
    command_id: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError where it says neither, or both."""
        if (self.ends_at is None) == (self.days is None):
            raise ValueError("either ends_at or days is needed")


class SetShop(
    Struct, frozen=True, omit_defaults=True, gc=False, tag="set_shop", tag_field="command"
):
    """An operator gives a merchant its shop, whichever merchant had it; once per key, for a day.

    The reason is internal and names no person.
    """

    merchant_id: Uuid
    platform: str
    domain: str
    reason: Text
    idempotency_key: Key
    command_id: str = ""


class ForgetMerchant(
    Struct, frozen=True, omit_defaults=True, gc=False, tag="forget_merchant", tag_field="command"
):
    """Erase the merchant's personal data; financial records are kept.

    `shop` and `triggered_at` are as in `UninstallMerchant`. Of a shop that the merchant had before
    only the name goes.
    """

    merchant_id: Uuid
    command_id: str = ""
    shop: Text | None = None
    triggered_at: Instant | None = None


class UninstallMerchant(
    Struct,
    frozen=True,
    omit_defaults=True,
    gc=False,
    tag="uninstall_merchant",
    tag_field="command",
):
    """The merchant uninstalled the app: open purchases expire, credits and trial stay.

    `shop` is `platform:domain`, `triggered_at` when it happened. A merchant that has another shop
    by now, or installed later, is left alone; without them its present installation is meant.
    """

    merchant_id: Uuid
    command_id: str = ""
    shop: Text | None = None
    triggered_at: Instant | None = None


class AdvanceClock(Struct, frozen=True, gc=False, tag="move_clock", tag_field="command"):
    """Development and test: it is `to` for this merchant now, and all that fell due happens."""

    merchant_id: Uuid
    to: Instant
    command_id: str = ""


class OldPurchase(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A purchase as the service before this one had it, with the id it had there.

    Without a `currency` its amount is in BILLING_CURRENCY.
    """

    id: Uuid
    credits: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    amount: PositiveAmount
    status: Literal["pending", "completed", "failed", "expired"]
    platform: Platform
    created_at: Instant
    expires_at: Instant
    platform_charge_id: Key | None = None
    completed_at: Instant | None = None
    currency: Currency | None = None


class ImportMerchant(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    tag="import_merchant",
    tag_field="command",
):
    """Bring a merchant in from the service before this one, with purchases of it.

    It may be repeated, and cut into several with some of the purchases each. `platform` and
    `domain` register the shop of a merchant that has none here.
    """

    merchant_id: Uuid
    created_at: Instant
    trial_available: bool = True
    trial_started_at: Instant | None = None
    trial_ends_at: Instant | None = None
    last_purchase_at: Instant | None = None
    platform: str | None = None
    domain: str | None = None
    purchases: Annotated[tuple[OldPurchase, ...], Meta(max_length=OLD_PURCHASES_MAX)] = ()
    command_id: str = ""


Command = (
    CreateMerchant
    | StartTrial
    | AnswerTrialClaim
    | ReservePurchase
    | AttachCharge
    | FailPurchase
    | UpdateCharge
    | RefundCharge
    | FailRefund
    | DisputeCharge
    | AdvanceTime
    | AdjustCredits
    | ExtendTrial
    | SetShop
    | ForgetMerchant
    | UninstallMerchant
    | AdvanceClock
    | ImportMerchant
)
