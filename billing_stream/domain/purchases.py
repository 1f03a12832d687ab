"""Rules of a purchase: reserved, attached to a charge, expired. Payments are in `webhooks`."""

from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from msgspec.structs import replace

from billing_stream.domain import installations
from billing_stream.domain.catalogue import CatalogueVersion
from billing_stream.domain.commands import AttachCharge, FailPurchase, ReservePurchase
from billing_stream.domain.draft import Draft
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Purchase, PurchaseStatus
from billing_stream.domain.outcomes import (
    Done,
    ErrorCode,
    PurchaseExpired,
    PurchaseOpened,
    Rejected,
    Reply,
)
from billing_stream.domain.webhooks import apply_parked, fail

# In the refusal of an unknown one.
PACKS_NAMED = 20


REFUSES = "refuses the checkout: "
"""Part of `no_checkout` where the platform refused what the client asked for."""


def in_force(versions: Iterable[CatalogueVersion], moment: datetime) -> CatalogueVersion | None:
    """The version that is in force at `moment`; None before the first: the settings are.

    It is the one that became effective last; of several with the same time, the last one set.
    """
    begun = [one for one in versions if one.effective_at <= moment]
    return max(begun, key=lambda one: (one.effective_at, one.version), default=None)


def reserve(draft: Draft, command: ReservePurchase) -> Reply:
    """Open a pending purchase of a pack; it expires when it is not paid in time.

    Refused where the merchant has as many open ones as the policy allows.
    """
    merchant_id = draft.merchant.merchant_id
    purchase_id = derived_id("purchase", merchant_id, command.command_id)
    found = draft.purchase(purchase_id)
    if found is not None:
        # Whatever is sold by now.
        return opening(found)
    if draft.merchant.uninstalled_at is not None:
        return installations.missing()
    version = in_force(draft.rows.versions, draft.now)
    packs = draft.policy.packs if version is None else version.packs
    pack = packs.get(command.pack)
    currency = command.currency or draft.policy.currency
    if pack is None:
        known = ", ".join(islice(packs, PACKS_NAMED))
        return Rejected(ErrorCode.INVALID_PACK, f"`pack` must be one of {known}")
    amount = pack.prices.get(currency)
    if amount is None:
        known = ", ".join(sorted(pack.prices))
        message = f"`currency` must be one of {known} for pack {command.pack!r}"
        return Rejected(ErrorCode.INVALID_PACK, message)
    if draft.open_count() >= draft.policy.open_purchases_max:
        message = f"the merchant has {draft.policy.open_purchases_max} unpaid purchases open"
        return Rejected(ErrorCode.TOO_MANY_OPEN_PURCHASES, message)
    purchase = Purchase(
        id=purchase_id,
        merchant_id=merchant_id,
        credits=pack.credits,
        amount=amount,
        status=PurchaseStatus.PENDING,
        platform=command.platform,
        created_at=draft.now,
        expires_at=draft.now + draft.policy.purchase_expiry,
        currency=currency,
        pack=command.pack,
        catalogue_version=None if version is None else version.version,
    )
    return opening(draft.put(purchase))


def opening(purchase: Purchase) -> PurchaseOpened | Rejected:
    """The answer to its opening as the purchase stands: no checkout, no purchase.

    It changes once at most: when the platform gave a checkout, or did not.
    """
    if purchase.no_checkout is not None:
        refused = REFUSES in purchase.no_checkout
        code = ErrorCode.CHECKOUT_REFUSED if refused else ErrorCode.PLATFORM_ERROR
        return Rejected(code, f"no checkout was opened: {purchase.no_checkout}")
    return opened(purchase)


def opened(purchase: Purchase) -> PurchaseOpened:
    """The answer with this purchase."""
    return PurchaseOpened(
        purchase.id,
        purchase.credits,
        purchase.amount,
        purchase.expires_at,
        purchase.checkout_url,
    )


def attach(draft: Draft, command: AttachCharge) -> Reply:
    """Tie a charge to a purchase, and apply what was parked for it.

    The first charge stays; the same again changes nothing.
    """
    purchase = draft.purchase(command.purchase_id)
    if purchase is None:
        return not_found(command.purchase_id)
    if purchase.platform_charge_id is not None:
        if purchase.platform_charge_id == command.charge_id:
            return opened(purchase)
        return Rejected(ErrorCode.CHARGE_MISMATCH, "the purchase has another charge already")
    if draft.purchase_of_charge(command.charge_id) is not None:
        return Rejected(ErrorCode.CHARGE_MISMATCH, "the charge belongs to another purchase")
    attached = replace(
        purchase,
        platform_charge_id=command.charge_id,
        checkout_url=None if draft.merchant.forgotten_at else command.checkout_url,
        test=command.test,
    )
    reply = opened(draft.put(attached))
    if draft.merchant.parked:
        apply_parked(draft, purchase.id, command.charge_id)
    return reply


def not_found(purchase_id: str) -> Rejected:
    """The refusal of a command for a purchase that the merchant does not have."""
    return Rejected(ErrorCode.PURCHASE_NOT_FOUND, f"the merchant has no purchase {purchase_id}")


def fail_by_id(draft: Draft, command: FailPurchase) -> Reply:
    """The platform gave no checkout: the pending purchase is failed.

    One that has a checkout was opened by another attempt, and stays open.
    """
    purchase = draft.purchase(command.purchase_id)
    if purchase is None:
        return not_found(command.purchase_id)
    if purchase.platform_charge_id is None and purchase.no_checkout is None:
        kept = "forgotten" if draft.merchant.forgotten_at else command.reason
        fail(draft, draft.put(replace(purchase, no_checkout=kept)), command.reason)
    return Done()


def expire(draft: Draft, purchase: Purchase, reason: str = "not paid in time") -> None:
    """Expire a pending purchase that was not paid in time, or of which there is another reason."""
    if purchase.checkout_url is None:
        purchase = replace(purchase, no_checkout="the purchase expired before")
    draft.settle(purchase, PurchaseStatus.EXPIRED)
    draft.publish(purchase.id, PurchaseExpired(purchase.merchant_id, purchase.id, reason))
