"""What a decision gives: events (past tense), a reply, changed rows."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from msgspec import Struct

from billing_stream.domain.model import Adjustment, Instant, Merchant, Platform, Purchase
from billing_stream.domain.reports import DisputeStatus, ParkedWebhook
from billing_stream.domain.shop_trial import TrialClaimed as TrialClaimed


class TrialStarted(Struct, frozen=True, gc=False):
    """The trial began; `credits` are announced here and not part of the purchased total."""

    kind: ClassVar[str] = "trial.started"
    merchant_id: str
    ends_at: Instant
    credits: int


class TrialEnding(Struct, frozen=True, gc=False):
    """The trial ends at `ends_at`, which is TRIAL_REMINDER away: once per end."""

    kind: ClassVar[str] = "trial.ending"
    merchant_id: str
    ends_at: Instant


class TrialExpired(Struct, frozen=True, gc=False):
    """The trial ended; `expired_at` is its end, however late this is published."""

    kind: ClassVar[str] = "trial.expired"
    merchant_id: str
    expired_at: Instant


class TrialExtended(Struct, frozen=True, omit_defaults=True, gc=False):
    """An operator moved the end of the trial to `ends_at`, or began a new period that ends then."""

    kind: ClassVar[str] = "trial.extended"
    merchant_id: str
    ends_at: Instant
    extension_id: str
    merchant_note: str | None = None


class CreditsPurchased(Struct, frozen=True, gc=False):
    """A purchase was paid and its credits granted.

    `currency` is that of the amount. `test`: the platform took no money. `catalogue_version` is
    the one under which the purchase was opened; null: the packs of the settings. Events of releases
    up to 0.5.1 have none of them, nor `pack`.
    """

    kind: ClassVar[str] = "credits.purchased"
    merchant_id: str
    purchase_id: str
    credits: int
    amount: str
    platform: Platform
    currency: str | None = None
    pack: str | None = None
    test: bool = False
    catalogue_version: int | None = None


class PurchaseFailed(Struct, frozen=True, gc=False):
    """A pending purchase was declined, cancelled, or got no checkout."""

    kind: ClassVar[str] = "purchase.failed"
    merchant_id: str
    purchase_id: str
    reason: str


class PurchaseExpired(Struct, frozen=True, gc=False):
    """A pending purchase was not paid in time, or its merchant uninstalled the app before."""

    kind: ClassVar[str] = "purchase.expired"
    merchant_id: str
    purchase_id: str
    reason: str


class PurchaseRefunded(Struct, frozen=True, gc=False):
    """A paid purchase was refunded, whole or in part, and these credits removed from the total.

    `credits` and `amount` are those of this refund alone; the rest is as in `credits.purchased`.
    """

    kind: ClassVar[str] = "purchase.refunded"
    merchant_id: str
    purchase_id: str
    credits: int
    amount: str
    currency: str | None = None
    pack: str | None = None
    test: bool = False
    catalogue_version: int | None = None


class PurchaseRefundFailed(Struct, frozen=True, gc=False):
    """A refund failed or was cancelled: these credits are in the balance again."""

    kind: ClassVar[str] = "purchase.refund_failed"
    merchant_id: str
    purchase_id: str
    credits: int


class PurchaseDisputed(Struct, frozen=True, gc=False):
    """A bank withdrew the money of a purchase; `credits`, not above 0, changed the balance."""

    kind: ClassVar[str] = "purchase.disputed"
    merchant_id: str
    purchase_id: str
    dispute_id: str
    outcome: DisputeStatus
    credits: int


class PurchaseDisputeClosed(Struct, frozen=True, gc=False):
    """A dispute was closed: won or reinstated returns credits, lost leaves them taken.

    `credits`, signed, changed the balance: below 0 where the withdrawal was not reported before.
    """

    kind: ClassVar[str] = "purchase.dispute_closed"
    merchant_id: str
    purchase_id: str
    dispute_id: str
    outcome: DisputeStatus
    credits: int


class CreditsAdjusted(Struct, frozen=True, omit_defaults=True, gc=False):
    """An operator gave these credits, or, below zero, took them away.

    `reason` is internal: merchants may be shown `merchant_note`, and not the reason.
    """

    kind: ClassVar[str] = "credits.adjusted"
    internal: ClassVar[frozenset[str]] = frozenset({"reason"})
    merchant_id: str
    adjustment_id: str
    credits: int
    reason: str
    merchant_note: str | None = None


class MerchantForgotten(Struct, frozen=True, gc=False):
    """The merchant's personal data was erased; services with copies do likewise."""

    kind: ClassVar[str] = "merchant.forgotten"
    merchant_id: str


class MerchantUninstalled(Struct, frozen=True, gc=False):
    """The merchant uninstalled the app: once per installation. Its credits and its trial stay."""

    kind: ClassVar[str] = "merchant.uninstalled"
    merchant_id: str


class TrialImported(Struct, frozen=True, gc=False):
    """A trial that was used at the service before this one; null: at an unknown time.

    Once per merchant. An end that was past by then is not published again.
    """

    kind: ClassVar[str] = "trial.imported"
    merchant_id: str
    started_at: Instant | None
    ends_at: Instant | None


class CreditsImported(Struct, frozen=True, gc=False):
    """A purchase that was paid at the service before this one: its credits are in the balance.

    Once per purchase, and instead of `credits.purchased`.
    """

    kind: ClassVar[str] = "credits.imported"
    merchant_id: str
    purchase_id: str
    credits: int
    amount: str
    platform: Platform
    currency: str | None = None


EventData = (
    TrialStarted
    | TrialEnding
    | TrialExpired
    | TrialExtended
    | CreditsPurchased
    | PurchaseFailed
    | PurchaseExpired
    | PurchaseRefunded
    | PurchaseRefundFailed
    | PurchaseDisputed
    | PurchaseDisputeClosed
    | CreditsAdjusted
    | MerchantForgotten
    | MerchantUninstalled
    | TrialImported
    | CreditsImported
)


class Event(Struct, frozen=True, gc=False):
    """Something that happened. The same event has the same id permanently.

    `sequence` numbers a merchant's events 1, 2, 3 … without gaps.
    """

    event_id: str
    sequence: int
    at: datetime
    data: EventData


class ShopRegistered(Struct, frozen=True, omit_defaults=True, gc=False):
    """A merchant claims a shop's domain (for the shops table); `gone`: it is its no longer.

    `platform_shop_id` and `installed_at` are of the installation (None: unknown). `uninstalled`:
    another merchant may have the shop. `again`: it adds to a shop of the merchant, or repeats it,
    and takes none from another one. `if_free`: it counts where no merchant has the shop.
    """

    platform: str
    domain: str
    merchant_id: str
    gone: bool = False
    platform_shop_id: str | None = None
    installed_at: Instant | None = None
    uninstalled: bool = False
    again: bool = False
    if_free: bool = False


class ErrorCode(StrEnum):
    """Why a command is refused. What status that is over HTTP, the web layer knows."""

    MERCHANT_NOT_FOUND = "MERCHANT_NOT_FOUND"
    PURCHASE_NOT_FOUND = "PURCHASE_NOT_FOUND"
    TRIAL_ALREADY_USED = "TRIAL_ALREADY_USED"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    INVALID_PACK = "INVALID_PACK"
    CHARGE_MISMATCH = "CHARGE_MISMATCH"
    PLATFORM_ERROR = "PLATFORM_ERROR"
    CHECKOUT_REFUSED = "CHECKOUT_REFUSED"
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    TOO_MANY_OPEN_PURCHASES = "TOO_MANY_OPEN_PURCHASES"
    INSUFFICIENT_CREDITS = "INSUFFICIENT_CREDITS"
    UNKNOWN_STATUS = "UNKNOWN_STATUS"
    PAYMENT_MISMATCH = "PAYMENT_MISMATCH"
    TOO_MANY_REFUNDS = "TOO_MANY_REFUNDS"
    CLOCK_REFUSED = "CLOCK_REFUSED"
    TRIAL_NOT_EXTENDABLE = "TRIAL_NOT_EXTENDABLE"
    INVALID_TRIAL_END = "INVALID_TRIAL_END"
    INVALID_SHOP = "INVALID_SHOP"
    MERCHANT_UNINSTALLED = "MERCHANT_UNINSTALLED"


class Done(Struct, frozen=True, gc=False, tag="done"):
    """Nothing more to say than that it is so now."""


class Superseded(Struct, frozen=True, gc=False, tag="superseded"):
    """The answer about an older installation, or another shop: it changed nothing."""


class Rejected(Struct, frozen=True, gc=False, tag="rejected"):
    """A refusal, as a value: the command changed nothing.

    But for one of a shop's name: all else of the command is done, and the shop is left out.
    """

    code: ErrorCode
    message: str


class UnmatchedWebhook(Struct, frozen=True, gc=False):
    """A parked webhook that is a dead letter.

    No purchase claimed its charge in time, or, where `others` is not 0, that number of them was
    parked, or it was `refused` when its charge was attached.
    """

    merchant_id: str
    parked: ParkedWebhook
    others: int = 0
    refused: Rejected | None = None


class TrialGranted(Struct, frozen=True, gc=False, tag="trial_granted"):
    """The answer to StartTrial."""

    ends_at: Instant
    credits_granted: int


class TrialAsked(Struct, frozen=True, gc=False, tag="trial_asked"):
    """The answer to StartTrial while the owner of the shop decides: ask again."""


class PurchaseOpened(Struct, frozen=True, gc=False, tag="purchase_opened"):
    """The answer to ReservePurchase; `checkout_url` is missing until a charge is attached."""

    purchase_id: str
    credits: int
    amount: str
    expires_at: Instant
    checkout_url: str | None = None


class AdjustmentMade(Struct, frozen=True, gc=False, tag="adjustment_made"):
    """The answer to AdjustCredits; `balance` is that after it."""

    adjustment_id: str
    credits: int
    balance: int


class TrialExtensionMade(Struct, frozen=True, gc=False, tag="trial_extension_made"):
    """The answer to ExtendTrial: when the trial ends by it."""

    extension_id: str
    ends_at: Instant


class ShopSet(Struct, frozen=True, gc=False, tag="shop_set"):
    """The answer to SetShop: its names in their one form."""

    platform: str
    domain: str


class ClockMoved(Struct, frozen=True, gc=False, tag="clock_moved"):
    """The answer to AdvanceClock: the time it is for the merchant."""

    now: Instant


Reply = (
    Done
    | Superseded
    | Rejected
    | TrialGranted
    | TrialAsked
    | PurchaseOpened
    | AdjustmentMade
    | TrialExtensionMade
    | ShopSet
    | ClockMoved
)


class TimedReply(Struct, frozen=True, gc=False):
    """A reply and when it was given; to a repeated idempotency key, when it was first.

    `replayed`: it is the stored answer to a key, given once more.
    """

    reply: Reply
    at: Instant
    replayed: bool = False


class StoredResponse(Struct, frozen=True, gc=False):
    """A row of `idempotency_keys`: the first answer to a key, with what was asked."""

    merchant_id: str
    key: str
    fingerprint: str
    reply: Reply
    at: Instant


class Decision(Struct, frozen=True, gc=False):
    """All that one command causes. It becomes visible whole, or not at all.

    `merchant` is the changed row, or None when nothing changed: then nothing at all
    is written. `forgotten` are keys of answers that are kept no longer.
    """

    reply: Reply
    merchant: Merchant | None = None
    purchases: tuple[Purchase, ...] = ()
    answers: tuple[StoredResponse, ...] = ()
    forgotten: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    shops: tuple[ShopRegistered, ...] = ()
    unclaimed: tuple[UnmatchedWebhook, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    trial_claims: tuple[TrialClaimed, ...] = ()
