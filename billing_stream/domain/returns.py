"""Rules of money that goes back: refunds, failed refunds and disputes.

The credits that are taken follow from everything that was reported of a charge, and not from its
order: the same reports, in any order and however often, lead to the same balance.
"""

from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction
from math import floor

from msgspec.structs import replace

from billing_stream.domain.draft import Draft
from billing_stream.domain.model import Purchase, PurchaseStatus
from billing_stream.domain.outcomes import (
    ErrorCode,
    PurchaseDisputeClosed,
    PurchaseDisputed,
    PurchaseRefunded,
    PurchaseRefundFailed,
    Rejected,
)
from billing_stream.domain.reports import Dispute, DisputeStatus, ParkedWebhook, Returned

# Of refunds with an id, of failed ones, and of disputes of one purchase.
REPORTS_MAX = 100
_RANKS = {
    DisputeStatus.WITHDRAWN: 1,
    DisputeStatus.LOST: 2,
    DisputeStatus.WON: 3,
    DisputeStatus.REINSTATED: 3,
}
_CENT_OF_A_CENT = Decimal("0.000001")
_NOTHING, _WHOLE = Fraction(0), Fraction(1)


def refuse(purchase: Purchase, webhook: ParkedWebhook) -> Rejected | None:
    """Why a refund or dispute cannot be carried out: it is not a share of what was paid."""
    currency = webhook.currency
    if webhook.charge_amount is None and currency not in (None, purchase.currency):
        message = f"it is in {currency}, of a purchase in {purchase.currency}, and does not state "
        return Rejected(ErrorCode.PAYMENT_MISMATCH, f"{message}`charge_amount`")
    returned = purchase.returned or Returned()
    for reports, new in (
        (returned.refunds, webhook.refund_id),
        (returned.failed, webhook.refund_id),
        (returned.disputes, webhook.dispute_id),
    ):
        if len(reports) >= REPORTS_MAX and new is not None and new not in reports:
            message = f"{REPORTS_MAX} of purchase {purchase.id} are kept already"
            return Rejected(ErrorCode.TOO_MANY_REFUNDS, message)
    return None


def refund(draft: Draft, paid: Purchase, webhook: ParkedWebhook) -> None:
    """Take the credits of a refund off the total, once.

    Its amount is that of the refund that it names, or else the sum of all refunds.
    """
    before = _returned(paid)
    share, own = _share(paid, webhook), webhook.refund_id
    known = Fraction(before.refunded if own is None else before.refunds.get(own, "0"))
    of = before.charge_amount or webhook.charge_amount
    if share <= known and of == before.charge_amount:
        return
    # The amount of the charge is new only: by it, failed refunds may be another share.
    after, subject = replace(before, charge_amount=of), f"{paid.id}/charge"
    if share > known and own is None:
        after = replace(after, refunded=str(share))
        # The whole at once has the purchase's own id.
        at_once = share == _WHOLE and not known
        subject = paid.id if at_once else f"{paid.id}/{_name(paid, share)}"
    elif share > known:
        after = replace(after, refunds={**before.refunds, own or "": str(share)})
        subject = f"{paid.id}/refund/{own}/{share}"
    changed, taken = _settle(draft, paid, after, webhook.amount)
    more = _refunded(paid, after) - _refunded(paid, before)
    if more > 0:
        amount = Decimal(changed.refunded_amount) - Decimal(paid.refunded_amount)
        sold = paid.currency, paid.pack, paid.test, paid.catalogue_version
        event = PurchaseRefunded(paid.merchant_id, paid.id, taken, str(amount), *sold)
        draft.publish(subject, event)
    elif more < 0:
        draft.publish(subject, PurchaseRefundFailed(paid.merchant_id, paid.id, -taken))


def fail_refund(draft: Draft, purchase: Purchase, webhook: ParkedWebhook) -> None:
    """Return the credits that this refund took; one that fails before it is reported takes none."""
    before, own = _returned(purchase), webhook.refund_id or ""
    if own in before.failed:
        return
    after = replace(before, failed={**before.failed, own: webhook.amount or ""})
    _, taken = _settle(draft, purchase, after)
    if _refunded(purchase, after) != _refunded(purchase, before):
        event = PurchaseRefundFailed(purchase.merchant_id, purchase.id, -taken)
        draft.publish(f"{purchase.id}/failed/{own}", event)


def dispute(draft: Draft, paid: Purchase, webhook: ParkedWebhook) -> None:
    """Take what was withdrawn, beyond what was refunded; return it where the money is back."""
    before, own = _returned(paid), webhook.dispute_id or ""
    status = DisputeStatus(webhook.status)
    share, known = _share(paid, webhook), before.disputes.get(own)
    if known is not None:
        share = max(share, Fraction(known.share))
        if _RANKS[known.status] >= _RANKS[status]:
            status = known.status
    now = Dispute(status, str(share))
    if now == known:
        return
    after = replace(before, disputes={**before.disputes, own: now})
    _, taken = _settle(draft, paid, after)
    of_dispute = paid.merchant_id, paid.id, own, status, -taken
    event: PurchaseDisputed | PurchaseDisputeClosed = PurchaseDisputeClosed(*of_dispute)
    if status is DisputeStatus.WITHDRAWN:
        event = PurchaseDisputed(*of_dispute)
    draft.publish(f"{paid.id}/{own}/{status}/{share}", event)


def _settle(
    draft: Draft, purchase: Purchase, returned: Returned, stated: str | None = None
) -> tuple[Purchase, int]:
    """The purchase with what was returned of it, and how many credits more are taken.

    Where the sum that was `stated` is that of all refunds, it stays in its text.
    """
    refunded = _refunded(purchase, returned)
    withdrawn = sum((Fraction(one.share) for one in _withdrawn(returned)), _NOTHING)
    credits = floor(purchase.credits * refunded)
    taken = floor(purchase.credits * min(_WHOLE, refunded + withdrawn))
    more = taken - purchase.refunded_credits - purchase.disputed_credits
    changed = replace(
        purchase,
        returned=None,
        refunded_amount=_money(purchase, refunded, stated),
        refunded_credits=credits,
        disputed_credits=taken - credits,
    )
    if returned != _returned(changed):
        changed = replace(changed, returned=returned)
    status = purchase.status
    if status in (PurchaseStatus.COMPLETED, PurchaseStatus.REFUNDED):
        whole = refunded == _WHOLE
        status = PurchaseStatus.REFUNDED if whole else PurchaseStatus.COMPLETED
    if changed != purchase or status is not purchase.status:
        draft.settle(changed, status)
    if more:
        total = draft.merchant.total_credits_purchased - more
        draft.change(total_credits_purchased=total)
    return changed, more


def _returned(purchase: Purchase) -> Returned:
    """What was reported; where the row does not have it, a sum of refunds in its currency."""
    back = Fraction(purchase.refunded_amount)
    return purchase.returned or Returned(refunded=str(back and back / Fraction(_paid(purchase))))


def _refunded(purchase: Purchase, returned: Returned) -> Fraction:
    """The share of the charge that was refunded and did not fail.

    A sum of refunds counts as far as it is more than those that have an id of their own.
    """
    known = {own: Fraction(share) for own, share in returned.refunds.items()}
    lasting = sum((s for own, s in known.items() if own not in returned.failed), _NOTHING)
    rest = Fraction(returned.refunded) - sum(known.values(), _NOTHING)
    for own, amount in returned.failed.items():
        if own not in known:
            rest -= _part(amount, returned.charge_amount, purchase)
    return min(_WHOLE, lasting + max(_NOTHING, rest))


def _withdrawn(returned: Returned) -> list[Dispute]:
    gone = (DisputeStatus.WITHDRAWN, DisputeStatus.LOST)
    return [dispute for dispute in returned.disputes.values() if dispute.status in gone]


def _share(purchase: Purchase, webhook: ParkedWebhook) -> Fraction:
    return _part(webhook.amount or "", webhook.charge_amount, purchase)


def _part(amount: str, charge_amount: str | None, purchase: Purchase) -> Fraction:
    """Which share of the charge an amount is; an empty one is the whole."""
    whole = _paid(purchase) if charge_amount is None else Decimal(charge_amount)
    if not amount or Decimal(amount) >= whole:
        return _WHOLE
    return Fraction(Decimal(amount)) / Fraction(whole)


def _paid(purchase: Purchase) -> Decimal:
    return Decimal(purchase.amount) - Decimal(purchase.discount)


def _exact(purchase: Purchase, share: Fraction) -> Decimal:
    paid = Fraction(_paid(purchase)) * share
    return Decimal(paid.numerator) / Decimal(paid.denominator)


def _money(purchase: Purchase, share: Fraction, stated: str | None) -> str:
    """The share in money of the purchase: decimal text, rounded down to 6 decimals."""
    paid = _paid(purchase)
    if not share or share == _WHOLE:
        return str(paid) if share else "0"
    if stated and Fraction(stated) == Fraction(paid) * share:
        return stated
    exact = _exact(purchase, share).quantize(_CENT_OF_A_CENT, ROUND_FLOOR).normalize()
    return str(exact + paid - paid)


def _name(purchase: Purchase, share: Fraction) -> str:
    """The share in the id of an event: the sum of money where it is one, as in every release."""
    exact = _exact(purchase, share)
    if Fraction(exact) == Fraction(_paid(purchase)) * share:
        return f"{exact.normalize():f}"
    return str(share)
