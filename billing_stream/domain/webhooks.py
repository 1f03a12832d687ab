"""Rules of what the platforms report of a charge: it was paid, declined, refunded, disputed."""

from decimal import Decimal

from msgspec.structs import replace

from billing_stream.domain import returns
from billing_stream.domain.commands import DisputeCharge, FailRefund, RefundCharge, UpdateCharge
from billing_stream.domain.draft import Draft
from billing_stream.domain.model import Purchase, PurchaseStatus
from billing_stream.domain.outcomes import (
    CreditsPurchased,
    Done,
    ErrorCode,
    PurchaseFailed,
    Rejected,
    Reply,
)
from billing_stream.domain.reports import ParkedKind, ParkedWebhook

PAID = frozenset({"accepted", "active"})
OPEN = frozenset({"pending"})
_SAID = ("amount", "purchase_id", "currency", "charge_amount", "refund_id", "dispute_id")
UNPAID = frozenset({"declined", "expired", "cancelled", "failed", "frozen"})


def update(draft: Draft, command: UpdateCharge) -> Reply:
    """The words for paid complete, those for unpaid fail, `pending` changes nothing.

    They are read in any letter case. Any other word is refused.
    """
    current = draft.policy.rules > 1
    status = command.status.strip().lower() if current else command.status.lower()
    if status in OPEN:
        return Done()
    refused = unknown_status(status) if current else None
    if refused is not None:
        return refused
    kind = ParkedKind.COMPLETE if status in PAID else ParkedKind.FAIL
    webhook = ParkedWebhook(command.charge_id, kind, status, command.command_id, draft.now)
    if kind is ParkedKind.COMPLETE and current and (command.amount or command.currency):
        webhook = replace(webhook, amount=command.amount, currency=command.currency)
    return _apply_or_park(draft, webhook)


def unknown_status(status: str) -> Rejected | None:
    """The refusal of a word that means neither paid nor unpaid; None for a known one."""
    known = PAID | OPEN | UNPAID
    if status.strip().lower() in known:
        return None
    message = f"no status {status!r}; there are: {', '.join(sorted(known))}"
    return Rejected(ErrorCode.UNKNOWN_STATUS, message)


def refund(draft: Draft, command: RefundCharge | FailRefund | DisputeCharge) -> Reply:
    """Money of the charge went back, did not go back after all, or is disputed."""
    kind, status = ParkedKind.REFUND, "refunded"
    if isinstance(command, FailRefund):
        kind, status = ParkedKind.REFUND_FAILED, "failed"
    elif isinstance(command, DisputeCharge):
        kind, status = ParkedKind.DISPUTE, command.status
    said = (getattr(command, name, None) for name in _SAID)
    charge, source = command.charge_id, command.command_id
    webhook = ParkedWebhook(charge, kind, status, source, draft.now, *said)
    purchase = draft.purchase(command.purchase_id) if command.purchase_id else None
    return _apply_or_park(draft, webhook, purchase)


def apply_parked(draft: Draft, purchase_id: str, charge_id: str) -> None:
    """Apply what was parked for a charge, in the order it came."""
    waiting = draft.merchant.parked
    mine = [parked for parked in waiting if parked.charge_id == charge_id]
    if not mine:
        return
    draft.change(parked=tuple(parked for parked in waiting if parked.charge_id != charge_id))
    for parked in mine:
        purchase = draft.purchase(purchase_id)
        if purchase is not None:
            refused = _apply(draft, purchase, parked)
            if refused is not None:
                draft.expire_parked(parked, refused=refused)


def _apply_or_park(draft: Draft, webhook: ParkedWebhook, known: Purchase | None = None) -> Reply:
    purchase = known or draft.purchase_of_charge(webhook.charge_id)
    if purchase is not None:
        return _apply(draft, purchase, webhook) or Done()
    waiting = draft.merchant.parked
    if any(_says_the_same(parked, webhook) for parked in waiting):
        return Done()
    if len(waiting) >= draft.policy.parked_max:
        draft.expire_parked(webhook, others=len(waiting))
    else:
        draft.park(webhook)
    return Done()


def _says_the_same(one: ParkedWebhook, other: ParkedWebhook) -> bool:
    """Whether it leads to the same; of an unpaid charge the first reason stays."""
    status = other.status if other.kind is ParkedKind.DISPUTE else one.status
    same = replace(other, source=one.source, at=one.at, purchase_id=one.purchase_id)
    return replace(same, status=status) == one


def _apply(draft: Draft, purchase: Purchase, webhook: ParkedWebhook) -> Rejected | None:
    """Carry it out, or say why not."""
    if webhook.kind is ParkedKind.COMPLETE:
        return _pay(draft, purchase, webhook)
    if webhook.kind is ParkedKind.FAIL:
        fail(draft, purchase, webhook.status)
        return None
    if webhook.amount and not Decimal(webhook.amount):
        # Of nothing, which proves no payment.
        return None
    refused = returns.refuse(purchase, webhook)
    if refused is not None:
        return refused
    if webhook.kind is ParkedKind.REFUND_FAILED:
        returns.fail_refund(draft, purchase, webhook)
        return None
    # It proves the payment: one that is reported before grants the credits first, so that a
    # consumer that adds up the events never sees a refund of nothing.
    complete(draft, purchase)
    paid = draft.purchase(purchase.id) or purchase
    carry_out = returns.refund if webhook.kind is ParkedKind.REFUND else returns.dispute
    carry_out(draft, paid, webhook)
    return None


def _pay(draft: Draft, purchase: Purchase, webhook: ParkedWebhook) -> Rejected | None:
    """Grant the credits where the amount that was asked for was paid, or none is stated."""
    amount, currency = webhook.amount, webhook.currency or purchase.currency
    less = Decimal(purchase.amount) - Decimal(amount) if amount is not None else Decimal(0)
    if currency != purchase.currency or (less > 0 and not draft.policy.accept_discounts):
        paid, asked = f"{amount or 'what'} {currency}", f"{purchase.amount} {purchase.currency}"
        message = f"{paid} was paid for purchase {purchase.id}, which costs {asked}"
        return Rejected(ErrorCode.PAYMENT_MISMATCH, message)
    complete(draft, replace(purchase, discount=str(less)) if less > 0 else purchase)
    return None


def complete(draft: Draft, purchase: Purchase) -> None:
    """Grant the credits of a paid purchase, once.

    A payment for a purchase that has failed or expired is honoured: the money was taken.
    """
    if purchase.status in (PurchaseStatus.COMPLETED, PurchaseStatus.REFUNDED):
        return
    draft.complete(purchase)
    total = draft.merchant.total_credits_purchased + purchase.credits
    draft.change(total_credits_purchased=total, last_purchase_at=draft.now)
    paid = purchase.merchant_id, purchase.id, purchase.credits, purchase.amount, purchase.platform
    sold = purchase.currency, purchase.pack, purchase.test, purchase.catalogue_version
    draft.publish(purchase.id, CreditsPurchased(*paid, *sold))


def fail(draft: Draft, purchase: Purchase, reason: str) -> None:
    """Fail a pending purchase; a paid, failed or expired one stays what it is."""
    if purchase.status is not PurchaseStatus.PENDING:
        return
    draft.settle(purchase, PurchaseStatus.FAILED)
    draft.publish(purchase.id, PurchaseFailed(purchase.merchant_id, purchase.id, reason))
