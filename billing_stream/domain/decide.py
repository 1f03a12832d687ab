"""The whole behaviour on one screen."""

from datetime import datetime
from itertools import islice
from typing import assert_never

from billing_stream.domain import (
    adjustments,
    clock,
    early_webhooks,
    idempotency,
    imports,
    merchants,
    purchases,
    trial_claims,
    trial_deadlines,
    trial_extensions,
    trials,
    uninstalls,
    webhooks,
)
from billing_stream.domain.commands import (
    AdjustCredits,
    AdvanceClock,
    AdvanceTime,
    AnswerTrialClaim,
    AttachCharge,
    Command,
    CreateMerchant,
    DisputeCharge,
    ExtendTrial,
    FailPurchase,
    FailRefund,
    ForgetMerchant,
    ImportMerchant,
    RefundCharge,
    ReservePurchase,
    SetShop,
    StartTrial,
    UninstallMerchant,
    UpdateCharge,
)
from billing_stream.domain.draft import Draft
from billing_stream.domain.outcomes import Decision, Done, Reply
from billing_stream.domain.state import State


def decide(state: State, command: Command, now: datetime) -> Decision:
    """What `command` causes at `now`, the record's timestamp (aware UTC).

    Pure and total: a refusal is a reply. What fell due by `now` happens first, in the order of the
    deadlines, so a late timer never changes an outcome.
    """
    draft = Draft(state, now)
    if isinstance(command, AdvanceClock):
        clock.move(draft, command)
    _let_time_pass(draft, command.most if isinstance(command, AdvanceTime) else None)
    reply = _carry_out(draft, command)
    if draft.merchant.platform_shop_id is not None and not draft.merchant.trial_available:
        trial_claims.claim_used(draft, state.merchant, command)
    return draft.seal(reply)


def _let_time_pass(draft: Draft, most: int | None) -> None:
    overdue = iter(draft.rows.pending_until(draft.merchant.merchant_id, draft.now))
    for purchase in islice(overdue, most):
        if draft.merchant.on_trial:
            trial_deadlines.pass_time(draft, purchase.expires_at)
        purchases.expire(draft, purchase)
    if next(overdue, None) is None:
        if draft.merchant.on_trial:
            trial_deadlines.pass_time(draft, draft.now)
        if draft.merchant.parked:
            early_webhooks.expire(draft)


def _carry_out(draft: Draft, command: Command) -> Reply:
    match command:
        case UpdateCharge():
            return webhooks.update(draft, command)
        case RefundCharge() | FailRefund() | DisputeCharge():
            return webhooks.refund(draft, command)
        case CreateMerchant():
            return merchants.create(draft, command)
        case AdvanceTime():
            return Done()
        case StartTrial():
            return draft.gone() or idempotency.idempotent(draft, command, trials.start)
        case AnswerTrialClaim():
            return draft.unknown() or trial_claims.answer(draft, command)
        case ReservePurchase():
            return draft.gone() or idempotency.idempotent(draft, command, purchases.reserve)
        case AttachCharge():
            return draft.unknown() or purchases.attach(draft, command)
        case FailPurchase():
            return draft.unknown() or purchases.fail_by_id(draft, command)
        case AdjustCredits():
            return draft.unknown() or adjustments.adjust(draft, command)
        case ExtendTrial():
            return draft.gone() or trial_extensions.extend(draft, command)
        case SetShop():
            return draft.gone() or idempotency.idempotent(draft, command, merchants.set_shop)
        case ForgetMerchant():
            return draft.unknown() or merchants.forget(draft, command)
        case UninstallMerchant():
            return draft.unknown() or uninstalls.uninstall(draft, command)
        case AdvanceClock():
            return clock.moved(draft, command)
        case ImportMerchant():
            return imports.import_merchant(draft, command)
        case _:
            assert_never(command)
