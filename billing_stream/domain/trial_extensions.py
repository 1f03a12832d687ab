"""Rules of extensions of a trial, which operators make."""

from datetime import UTC, datetime, timedelta

from billing_stream.domain.commands import TRIAL_DAYS_MAX, ExtendTrial
from billing_stream.domain.draft import Draft
from billing_stream.domain.ids import derived_id
from billing_stream.domain.model import Merchant, TrialExtension
from billing_stream.domain.outcomes import (
    ErrorCode,
    Rejected,
    Reply,
    TrialExtended,
    TrialExtensionMade,
)

# Of one merchant, for ever: they are in its row.
EXTENSIONS_MAX = 100


def made_by(merchant: Merchant, command: ExtendTrial) -> TrialExtension | None:
    """The extension that was made under the command's key."""
    extension_id = _id_of(command)
    return next((one for one in merchant.trial_extensions if one.id == extension_id), None)


def extend(draft: Draft, command: ExtendTrial) -> Reply:
    """Move the end of a trial that runs; begin a new period of one that has ended.

    The same again, however much later, gives the same answer and changes nothing. A refusal leaves
    its key free. An end never comes nearer.
    """
    merchant = draft.merchant
    made = made_by(merchant, command)
    if made is not None:
        return _again(made, command)
    if merchant.trial_available:
        return Rejected(ErrorCode.TRIAL_NOT_EXTENDABLE, "the trial was not started yet")
    if len(merchant.trial_extensions) >= EXTENSIONS_MAX:
        message = f"the trial was extended {EXTENSIONS_MAX} times: no more are possible"
        return Rejected(ErrorCode.TRIAL_NOT_EXTENDABLE, message)
    runs = merchant.trial_ends_at if merchant.on_trial else None
    least = runs or draft.now
    ends_at = command.ends_at or least + timedelta(days=command.days or 0)
    if not least < ends_at <= draft.now + timedelta(days=TRIAL_DAYS_MAX):
        field = "ends_at" if command.days is None else "days"
        message = f"`{field}` must end the trial after {least.isoformat()} and within ten years"
        return Rejected(ErrorCode.INVALID_TRIAL_END, message)
    return _answer(_extended(draft, command, ends_at.astimezone(UTC), new_period=runs is None))


def _extended(
    draft: Draft, command: ExtendTrial, ends_at: datetime, *, new_period: bool
) -> TrialExtension:
    merchant, extension_id, before = (
        draft.merchant,
        _id_of(command),
        draft.merchant.trial_extensions,
    )
    period = extension_id if new_period else before[-1].period if before else ""
    made = TrialExtension(extension_id, ends_at, draft.now, command.reason, command.days, period)
    began_at = next((one.at for one in (*before, made) if one.id == period), None)
    reminder = draft.policy.trial_reminder
    short = began_at is not None and reminder is not None and ends_at - began_at < reminder
    draft.change(
        trial_ends_at=ends_at,
        trial_expired=False,
        # A period that is shorter than the reminder has none.
        trial_reminded=short,
        trial_extensions=(*before, made),
    )
    note = command.merchant_note
    draft.publish(made.id, TrialExtended(merchant.merchant_id, ends_at, made.id, note))
    return made


def _id_of(command: ExtendTrial) -> str:
    """The id of the extension: of merchant and key, so a key has one permanently."""
    return derived_id("trial.extension", command.merchant_id, command.idempotency_key)


def _again(made: TrialExtension, command: ExtendTrial) -> Reply:
    same_end = made.days == command.days and command.ends_at in (None, made.ends_at)
    if not same_end or made.reason != command.reason:
        message = "the idempotency key was used with other parameters"
        return Rejected(ErrorCode.IDEMPOTENCY_KEY_REUSED, message)
    return _answer(made)


def _answer(made: TrialExtension) -> TrialExtensionMade:
    return TrialExtensionMade(made.id, made.ends_at)
