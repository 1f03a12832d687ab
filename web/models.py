"""The bodies of answers. Credits are whole numbers, amounts decimal text, times UTC."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import UNSET, Struct, UnsetType

from billing_stream.domain.commands import Uuid
from billing_stream.domain.model import Instant, Merchant, Platform, Purchase, PurchaseStatus
from billing_stream.domain.policy import Pack
from billing_stream.records.examples import (
    CHARGE_ID,
    ENDS_AT,
    EXPIRES_AT,
    MERCHANT_ID,
    NOW,
    PURCHASE_ID,
)


class TrialBody(Struct, frozen=True):
    """The free trial; `active` holds for the moment of reading."""

    available: bool
    active: bool
    started_at: Instant | None
    ends_at: Instant | None


class PurchaseBody(Struct, frozen=True):
    """One purchase of credits.

    `currency` is that of the amount. `test`: the platform takes no money for it. `pack` is null
    where it was imported, or opened by a release up to 0.5.1. What was refunded of it, or taken for
    disputes, is only there when it is not 0.
    """

    id: Uuid
    merchant_id: Uuid
    credits: int
    amount: str
    status: PurchaseStatus
    platform: Platform
    platform_charge_id: str | None
    created_at: Instant
    completed_at: Instant | None
    expires_at: Instant
    currency: str
    test: bool
    pack: str | None
    refunded_amount: str | UnsetType = UNSET
    refunded_credits: int | UnsetType = UNSET
    disputed_credits: int | UnsetType = UNSET


class PackBody(Struct, frozen=True):
    """What a purchase of this pack costs now, in one currency."""

    pack: str
    title: str
    credits: int
    amount: str
    currency: str


class BillingBody(Struct, frozen=True):
    """A merchant's billing on one page.

    `credits_purchased` are those not refunded; `credits_adjusted`, given or, below zero, taken
    away by operators, is only there when it is not 0. Together they are the balance.
    """

    trial: TrialBody
    credits_purchased: int
    last_purchase_at: Instant | None
    recent_purchases: list[PurchaseBody]
    credits_adjusted: int | UnsetType = UNSET


class TrialStartedBody(Struct, frozen=True):
    """The answer to the start of a trial."""

    success: bool
    ends_at: Instant
    credits_granted: int


class CheckoutBody(Struct, frozen=True):
    """A purchase that waits for payment, and the page on which it is paid."""

    purchase_id: Uuid
    checkout_url: str
    expires_at: Instant


TRIAL_EXAMPLE = TrialBody(False, True, NOW, ENDS_AT)
PURCHASE_EXAMPLE = PurchaseBody(
    PURCHASE_ID,
    MERCHANT_ID,
    100,
    "9.99",
    PurchaseStatus.COMPLETED,
    Platform.SHOPIFY,
    CHARGE_ID,
    NOW,
    NOW,
    EXPIRES_AT,
    "USD",
    False,
    "small",
)


def pack_bodies(packs: Mapping[str, Pack], currency: str) -> list[PackBody]:
    """Every pack with each of its prices; of each pack that in `currency` first."""
    return [
        PackBody(name, pack.shown_title, pack.credits, pack.prices[code], code)
        for name, pack in packs.items()
        for code in sorted(pack.prices, key=lambda code: code != currency)
    ]


def trial_body(merchant: Merchant, now: datetime, *, available: bool) -> TrialBody:
    """The merchant's trial at `now`, or by its own clock where that is later."""
    return TrialBody(
        available=available,
        active=merchant.trial_active(merchant.time(now)),
        started_at=merchant.trial_started_at,
        ends_at=merchant.trial_ends_at,
    )


def purchase_body(purchase: Purchase, old_currency: str) -> PurchaseBody:
    """The purchase as it is stored; a worker of 0.5.1 says no currency: then `old_currency`."""
    return PurchaseBody(
        id=purchase.id,
        merchant_id=purchase.merchant_id,
        credits=purchase.credits,
        amount=purchase.amount,
        status=purchase.status,
        platform=purchase.platform,
        platform_charge_id=purchase.platform_charge_id,
        created_at=purchase.created_at,
        completed_at=purchase.completed_at,
        expires_at=purchase.expires_at,
        currency=purchase.currency or old_currency,
        test=purchase.test,
        pack=purchase.pack,
        refunded_amount=purchase.refunded_amount if purchase.refunded_amount != "0" else UNSET,
        refunded_credits=purchase.refunded_credits or UNSET,
        disputed_credits=purchase.disputed_credits or UNSET,
    )


def billing_body(merchant: Merchant, trial: TrialBody, recent: list[PurchaseBody]) -> BillingBody:
    """The merchant's billing; `recent` newest first."""
    return BillingBody(
        trial=trial,
        credits_purchased=merchant.total_credits_purchased,
        last_purchase_at=merchant.last_purchase_at,
        recent_purchases=recent,
        credits_adjusted=merchant.credits_adjusted or UNSET,
    )
