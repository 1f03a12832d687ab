"""Rules of what comes from the service before this one: imported and published once."""

from datetime import datetime

from msgspec.structs import replace

from billing_stream.domain import webhooks
from billing_stream.domain.commands import ImportMerchant, OldPurchase
from billing_stream.domain.draft import Draft
from billing_stream.domain.merchants import named_shop
from billing_stream.domain.model import Purchase, PurchaseStatus
from billing_stream.domain.outcomes import (
    CreditsImported,
    Done,
    ErrorCode,
    Rejected,
    Reply,
    ShopRegistered,
    TrialImported,
)
from billing_stream.domain.shops import credible

UNPAID = frozenset({PurchaseStatus.PENDING, PurchaseStatus.FAILED, PurchaseStatus.EXPIRED})


def import_merchant(draft: Draft, command: ImportMerchant) -> Reply:
    """Take the unknown data; the same again changes nothing and publishes nothing.

    What happened here wins: a trial that was used here, a purchase that went further here.
    Refused whole when a purchase is another merchant's.
    """
    for old in command.purchases:
        known = draft.rows.purchase(old.id.lower())
        if known is not None and known.merchant_id != draft.merchant.merchant_id:
            message = f"purchase {known.id} is another merchant's"
            return Rejected(ErrorCode.PURCHASE_NOT_FOUND, message)
    shop = _bring_record(draft, command)
    _bring_trial(draft, command)
    attached: set[str] = set()
    for old in command.purchases:
        _bring_purchase(draft, old, attached)
    return shop if isinstance(shop, Rejected) else Done()


def _bring_record(draft: Draft, command: ImportMerchant) -> tuple[str, str] | Rejected | None:
    """The record is as old as the older one says; a shop is registered where one is missing."""
    merchant = draft.merchant
    if merchant.created_at is None or command.created_at < merchant.created_at:
        draft.change(created_at=command.created_at)
    if command.last_purchase_at is not None:
        _paid_at(draft, command.last_purchase_at)
    if not (command.platform and command.domain) or merchant.domain or merchant.forgotten_at:
        return None
    shop = named_shop(draft, command.platform, command.domain)
    if not isinstance(shop, Rejected):
        draft.change(platform=shop[0], domain=shop[1])
        # Who has installed the shop since then keeps it.
        at = credible(command.created_at, draft.now)
        draft.register_shop(ShopRegistered(*shop, merchant.merchant_id, installed_at=at))
    return shop


def _bring_trial(draft: Draft, command: ImportMerchant) -> None:
    """A trial that was used there cannot be had here; one that has ended is not published again."""
    merchant = draft.merchant
    if command.trial_available or not merchant.trial_available:
        return
    ends_at = command.trial_ends_at
    draft.change(
        trial_available=False,
        trial_started_at=command.trial_started_at,
        trial_ends_at=ends_at,
        trial_expired=ends_at is not None and ends_at <= draft.now,
    )
    imported = TrialImported(merchant.merchant_id, command.trial_started_at, ends_at)
    draft.publish(merchant.merchant_id, imported)


def _bring_purchase(draft: Draft, old: OldPurchase, attached: set[str]) -> None:
    """Add a purchase that is not known, or move a known one on; paid, its credits count once.

    A webhook that waited for its charge applies afterwards. `attached` are the charges that
    were attached by this command.
    """
    status = PurchaseStatus(old.status)
    if status is PurchaseStatus.PENDING and old.expires_at <= draft.now:
        # Its time was over before it came: nobody is told now.
        status = PurchaseStatus.EXPIRED
    known = draft.purchase(old.id.lower())
    charge = _free_charge(draft, old, known)
    if charge in attached:
        charge = None
    if known is None:
        brought = _new(draft, old, status)
    elif _goes_further(known.status, status):
        brought = replace(known, status=status)
    elif charge is not None:
        brought = known
    else:
        return
    if charge is not None:
        brought = replace(brought, platform_charge_id=charge)
    if brought.status is PurchaseStatus.COMPLETED and brought.completed_at is None:
        paid_at = old.completed_at or old.created_at
        brought = replace(brought, completed_at=paid_at)
        _count(draft, brought, paid_at)
    draft.put(brought)
    if charge is not None:
        attached.add(charge)
        webhooks.apply_parked(draft, brought.id, charge)


def _new(draft: Draft, old: OldPurchase, status: PurchaseStatus) -> Purchase:
    return Purchase(
        id=old.id.lower(),
        merchant_id=draft.merchant.merchant_id,
        credits=old.credits,
        amount=old.amount,
        status=status,
        platform=old.platform,
        created_at=old.created_at,
        expires_at=old.expires_at,
        currency=old.currency or draft.policy.currency,
    )


def _free_charge(draft: Draft, old: OldPurchase, known: Purchase | None) -> str | None:
    """The charge to attach: one that no purchase of the merchant has, to one that has none."""
    charge = old.platform_charge_id
    if charge is None or (known is not None and known.platform_charge_id is not None):
        return None
    return charge if draft.purchase_of_charge(charge) is None else None


def _goes_further(here: PurchaseStatus, there: PurchaseStatus) -> bool:
    """Paid goes before unpaid, and anything before pending; nothing goes back."""
    if there is PurchaseStatus.COMPLETED:
        return here in UNPAID
    return here is PurchaseStatus.PENDING and there is not here


def _count(draft: Draft, purchase: Purchase, paid_at: datetime) -> None:
    total = draft.merchant.total_credits_purchased + purchase.credits
    draft.change(total_credits_purchased=total)
    _paid_at(draft, paid_at)
    draft.publish(
        purchase.id,
        CreditsImported(
            purchase.merchant_id,
            purchase.id,
            purchase.credits,
            purchase.amount,
            purchase.platform,
            purchase.currency,
        ),
    )


def _paid_at(draft: Draft, moment: datetime) -> None:
    last = draft.merchant.last_purchase_at
    if last is None or last < moment:
        draft.change(last_purchase_at=moment)
