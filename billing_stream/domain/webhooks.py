"""Rules of what the platforms tell: a charge was paid, declined, refunded."""

from billing_stream.domain import purchases
from billing_stream.domain.commands import RefundCharge, UpdateCharge
from billing_stream.domain.draft import Draft
from billing_stream.domain.model import ParkedKind, ParkedWebhook, Purchase
from billing_stream.domain.outcomes import Done, Reply

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
    """The charge was paid back, whole or in part."""
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
            purchases.complete(draft, purchase)
        case ParkedKind.FAIL:
            purchases.fail(draft, purchase, webhook.status)
        case ParkedKind.REFUND:
            purchases.refund(draft, purchase, webhook.amount)
