"""Rules of what the platforms report of a charge: it was paid, declined, refunded."""

from decimal import ROUND_FLOOR, Decimal

from msgspec.structs import replace

from billing_stream.domain.commands import RefundCharge, UpdateCharge
from billing_stream.domain.draft import Draft
from billing_stream.domain.model import ParkedKind, ParkedWebhook, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import (
    CreditsPurchased,
    Done,
    PurchaseFailed,
    PurchaseRefunded,
    Reply,
)

PAID = frozenset({"accepted", "active"})
OPEN = frozenset({"pending"})


def update(draft: Draft, command: UpdateCharge) -> Reply:
    """`accepted` and `active` complete, `pending` changes nothing, anything else fails.

    Statuses are read in any letter case.
    """
    status = command.status.lower()
    if status in OPEN:
        return Done()
    kind = ParkedKind.COMPLETE if status in PAID else ParkedKind.FAIL
    webhook = ParkedWebhook(command.charge_id, kind, status, command.command_id, draft.now)
    _apply_or_park(draft, webhook)
    return Done()


def refund(draft: Draft, command: RefundCharge) -> Reply:
    """The charge was refunded, whole or in part."""
    webhook = ParkedWebhook(
        command.charge_id,
        ParkedKind.REFUND,
        "refunded",
        command.command_id,
        draft.now,
        command.amount,
        command.purchase_id,
    )
    purchase = draft.purchase(command.purchase_id) if command.purchase_id else None
    _apply_or_park(draft, webhook, purchase)
    return Done()


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
            _apply(draft, purchase, parked)


def expire_parked(draft: Draft) -> None:
    """Give up webhooks whose charge nobody claimed in time."""
    waiting = draft.merchant.parked
    if not waiting:
        return
    limit = draft.now - draft.policy.early_webhook_expiry
    if waiting[0].at > limit:
        return
    draft.change(parked=tuple(parked for parked in waiting if parked.at > limit))
    for parked in waiting:
        if parked.at <= limit:
            draft.expire_parked(parked)


def _apply_or_park(draft: Draft, webhook: ParkedWebhook, known: Purchase | None = None) -> None:
    purchase = known or draft.purchase_of_charge(webhook.charge_id)
    if purchase is not None:
        _apply(draft, purchase, webhook)
        return
    waiting = draft.merchant.parked
    same = (webhook.charge_id, webhook.kind, webhook.amount)
    if any((parked.charge_id, parked.kind, parked.amount) == same for parked in waiting):
        return
    if len(waiting) >= draft.policy.parked_max:
        draft.expire_parked(webhook, others=len(waiting))
        return
    draft.park(webhook)


def _apply(draft: Draft, purchase: Purchase, webhook: ParkedWebhook) -> None:
    match webhook.kind:
        case ParkedKind.COMPLETE:
            complete(draft, purchase)
        case ParkedKind.FAIL:
            fail(draft, purchase, webhook.status)
        case ParkedKind.REFUND:
            _refund(draft, purchase, webhook.amount)


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
    draft.publish(purchase.id, CreditsPurchased(*paid, *_sold(purchase)))


def fail(draft: Draft, purchase: Purchase, reason: str) -> None:
    """Fail a pending purchase; a paid, failed or expired one stays what it is."""
    if purchase.status is not PurchaseStatus.PENDING:
        return
    draft.settle(purchase, PurchaseStatus.FAILED)
    draft.publish(purchase.id, PurchaseFailed(purchase.merchant_id, purchase.id, reason))


def _refund(draft: Draft, purchase: Purchase, amount: str | None) -> None:
    """Take the credits of a refund off the total, once.

    `amount` is all that was refunded so far, None for the whole. A refund proves the payment: one
    that is reported before its payment grants the credits first, so that a consumer that adds up
    the events never sees a refund of nothing.
    """
    if purchase.status is PurchaseStatus.REFUNDED or (amount and not Decimal(amount)):
        return
    complete(draft, purchase)
    paid = draft.purchase(purchase.id) or purchase
    price, before = Decimal(paid.amount), Decimal(paid.refunded_amount)
    back = price if amount is None else min(Decimal(amount), price)
    if back < before or (back == before and back < price):
        return
    whole = back == price
    credits = paid.credits if whole else _share(paid.credits, back, price)
    taken = credits - paid.refunded_credits
    refunded = replace(paid, refunded_amount=str(back), refunded_credits=credits)
    draft.settle(refunded, PurchaseStatus.REFUNDED if whole else paid.status)
    draft.change(total_credits_purchased=draft.merchant.total_credits_purchased - taken)
    # Each step is an event of its own; the whole at once has the purchase's own id.
    subject = paid.id if before == 0 and whole else f"{paid.id}/{back.normalize():f}"
    event_data = PurchaseRefunded(
        paid.merchant_id, paid.id, taken, str(back - before), *_sold(paid)
    )
    draft.publish(subject, event_data)


def _share(credits: int, part: Decimal, whole: Decimal) -> int:
    """The credits of a part of the price, rounded down: never more than was refunded."""
    return int((credits * part / whole).to_integral_value(ROUND_FLOOR))


def _sold(purchase: Purchase) -> tuple[str, str | None, bool, int | None]:
    return purchase.currency, purchase.pack, purchase.test, purchase.catalogue_version
