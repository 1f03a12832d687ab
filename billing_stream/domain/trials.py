"""Rules of the free trial."""

from billing_stream.domain import installations, shop_trials
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
    """Start the trial, once per merchant; its credits are announced, not totalled.

    Once per shop, where the settings say so: then the owner of the shop is asked before.
    """
    merchant = draft.merchant
    if not merchant.trial_available:
        return shop_trials.started_by(draft, command) or Rejected(
            ErrorCode.TRIAL_ALREADY_USED, "the free trial was used already"
        )
    if merchant.uninstalled_at is not None:
        return installations.missing()
    not_yet = shop_trials.ask(draft, command)
    if not_yet is not None:
        return not_yet
    ends_at = draft.now + draft.policy.trial_duration
    credits = draft.policy.trial_credits
    draft.change(trial_available=False, trial_started_at=draft.now, trial_ends_at=ends_at)
    draft.publish(merchant.merchant_id, TrialStarted(merchant.merchant_id, ends_at, credits))
    return TrialGranted(ends_at, credits)
