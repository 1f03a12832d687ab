"""The rows of a merchant's billing state. Frozen: a change is a new row.

Money is decimal text, credits are whole numbers, times are aware UTC.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from billing_stream.domain.instant import Instant as Instant
from billing_stream.domain.reports import ParkedWebhook, Returned
from billing_stream.domain.shop_trial import ShopTrial as ShopTrial
from billing_stream.domain.trial_extension import TrialExtension as TrialExtension


class Platform(StrEnum):
    """Where a merchant's shop, and so its payments, live."""

    SHOPIFY = "shopify"
    STRIPE = "stripe"
    CUSTOM = "custom"


class PurchaseStatus(StrEnum):
    """Where a purchase stands. `completed` and then `refunded` are the paid ones."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    REFUNDED = "refunded"


class Merchant(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A row of `billing_records`: one per merchant.

    `created_at` is missing for a merchant known only by a webhook that came first.
    `version` counts changes and `sequence` counts published events, both without gaps.
    `updated_at` is also the merchant's clock: no later decision is made before it.
    `trial_reminded`: no reminder of the present end of its trial is left to be published.
    `former_shops` are shops (`platform:domain`) it had before; `forgotten_at` is when the
    personal data was erased, None again when it installs the app again. `platform_shop_id` is the
    platform's own id of its present shop, `installed_at` when the newest installation that is known
    was made, `uninstalled_at` when that one was uninstalled.
    """

    merchant_id: str
    platform: str = ""
    domain: str = ""
    trial_available: bool = True
    trial_started_at: Instant | None = None
    trial_ends_at: Instant | None = None
    trial_expired: bool = False
    trial_reminded: bool = False
    total_credits_purchased: int = 0
    last_purchase_at: Instant | None = None
    created_at: Instant | None = None
    updated_at: Instant | None = None
    version: int = 0
    sequence: int = 0
    parked: tuple[ParkedWebhook, ...] = ()
    credits_adjusted: int = 0
    former_shops: tuple[str, ...] = ()
    forgotten_at: Instant | None = None
    trial_extensions: tuple[TrialExtension, ...] = ()
    platform_shop_id: str | None = None
    installed_at: Instant | None = None
    uninstalled_at: Instant | None = None
    shop_trial: ShopTrial | None = None

    @property
    def balance(self) -> int:
        """Credits purchased, less refunds, and adjusted: the sum of all events."""
        return self.total_credits_purchased + self.credits_adjusted

    def time(self, moment: datetime) -> datetime:
        """The time it is for this merchant at `moment`: its clock may have been moved."""
        clock = self.updated_at
        return moment if clock is None or moment > clock else clock

    @property
    def on_trial(self) -> bool:
        """Whether a trial was started, and its expiry not published."""
        return self.trial_ends_at is not None and not self.trial_expired

    def trial_due(self, reminder: timedelta | None) -> datetime | None:
        """When the reminder of the trial's end is published, `reminder` before it, or the end.

        The next of the two; None when none is left. A trial shorter than `reminder` has none.
        """
        ends_at, started_at = self.trial_ends_at, self.trial_started_at
        if ends_at is None or self.trial_expired:
            return None
        before = timedelta(0) if reminder is None or self.trial_reminded else reminder
        short = started_at is not None and ends_at - started_at < before
        return ends_at if short else ends_at - before

    def trial_active(self, moment: datetime) -> bool:
        """Whether the trial runs at `moment`, even if its expiry is not published yet."""
        return self.trial_ends_at is not None and self.trial_ends_at > moment


class Purchase(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A row of `credit_purchases`: one per purchase. `amount` is decimal text, e.g. "9.99".

    `currency` (ISO 4217) is empty in rows of releases up to 0.5.1 only. They, and imported ones,
    have no `pack`. `test`: the platform took no money for it. `catalogue_version`: of the pack.
    `no_checkout` is why the platform gave none. `discount` is how much less than the amount was
    paid. `refunded_amount` (decimal text, in `currency`) and `refunded_credits` are what was
    refunded of it, `disputed_credits` what disputes took beyond that; both follow from `returned`,
    which is not there where they say it all.
    """

    id: str
    merchant_id: str
    credits: int
    amount: str
    status: PurchaseStatus
    platform: Platform
    created_at: Instant
    expires_at: Instant
    platform_charge_id: str | None = None
    checkout_url: str | None = None
    completed_at: Instant | None = None
    no_checkout: str | None = None
    refunded_amount: str = "0"
    refunded_credits: int = 0
    version: int = 0
    currency: str = ""
    pack: str | None = None
    test: bool = False
    catalogue_version: int | None = None
    discount: str = "0"
    disputed_credits: int = 0
    returned: Returned | None = None


class Adjustment(Struct, frozen=True, kw_only=True, gc=False):
    """A row of `credit_adjustments`: one per adjustment. `balance` is that after it."""

    id: str
    merchant_id: str
    credits: int
    reason: str
    balance: int
    created_at: Instant
    version: int
