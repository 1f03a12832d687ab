"""Rules of the free trial."""

from billing_stream.domain import installations
from billing_stream.domain.commands import StartTrial
from billing_stream.domain.draft import Draft
from billing_stream.domain.outcomes import (
    ErrorCode,
    Rejected,
    Reply,
    TrialGranted,
    TrialStarted,
)


def start(draft: Draft, command: StartTrial) -> Reply:
    """Start the trial, once per merchant for ever; its credits are announced, not totalled."""
    merchant = draft.merchant
    if not merchant.trial_available:
        return Rejected(ErrorCode.TRIAL_ALREADY_USED, "the free trial was used already")
    refused = installations.missing(draft)
    if refused is not None:
        return refused
    ends_at = draft.now + draft.policy.trial_duration
    credits = draft.policy.trial_credits
    draft.change(trial_available=False, trial_started_at=draft.now, trial_ends_at=ends_at)
    draft.publish(merchant.merchant_id, TrialStarted(merchant.merchant_id, ends_at, credits))
    return TrialGranted(ends_at, credits)
