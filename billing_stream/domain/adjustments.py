"""Rules of adjustments: credits given or taken by an operator."""

from billing_stream.domain.commands import AdjustCredits
from billing_stream.domain.draft import Draft
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Adjustment
from billing_stream.domain.outcomes import (
    AdjustmentMade,
    CreditsAdjusted,
    ErrorCode,
    Rejected,
    Reply,
)


def id_of(command: AdjustCredits) -> str:
    """The id of the adjustment: of merchant and key, so a key has one permanently."""
    return derived_id("adjustment", command.merchant_id, command.idempotency_key)


def adjust(draft: Draft, command: AdjustCredits) -> Reply:
    """Add or remove credits, but never more than the balance has.

    The same again, however much later, gives the same answer and changes nothing, the note of the
    first included. A refusal leaves its key free. Trial credits are not part of the balance.
    """
    adjustment_id = id_of(command)
    made = draft.rows.adjustment(adjustment_id)
    if made is not None:
        return _again(made, command)
    balance = draft.merchant.balance
    if command.credits < 0 and balance + command.credits < 0:
        message = f"`credits` must be at least {-balance}: the merchant has {balance}"
        return Rejected(ErrorCode.INSUFFICIENT_CREDITS, message)
    made = draft.adjust(adjustment_id, command.credits, command.reason)
    note = command.merchant_note
    event = CreditsAdjusted(made.merchant_id, made.id, made.credits, made.reason, note)
    draft.publish(made.id, event)
    return _answer(made)


def _again(made: Adjustment, command: AdjustCredits) -> Reply:
    if (made.credits, made.reason) != (command.credits, command.reason):
        message = "the idempotency key was used with other parameters"
        return Rejected(ErrorCode.IDEMPOTENCY_KEY_REUSED, message)
    return _answer(made)


def _answer(made: Adjustment) -> AdjustmentMade:
    return AdjustmentMade(made.id, made.credits, made.balance)
