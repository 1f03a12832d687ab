"""What falls due of the free trial, by time alone."""

from datetime import datetime

from billing_stream.domain.draft import Draft
from billing_stream.domain.outcomes import TrialEnding, TrialExpired


def pass_time(draft: Draft, until: datetime) -> None:
    """Publish what fell due of the trial by `until`, once: the reminder of its end, or its end.

    Their ids have the extension that set this end, or the one that began the period.
    """
    merchant_id, ends_at = draft.merchant.merchant_id, draft.merchant.trial_ends_at
    due = draft.merchant.trial_due(draft.policy.trial_reminder)
    if ends_at is None or due is None or due > until:
        return
    extensions = draft.merchant.trial_extensions
    last, period = (extensions[-1].id, extensions[-1].period) if extensions else ("", "")
    if draft.now < ends_at:
        draft.change(trial_reminded=True)
        draft.publish(f"{merchant_id}/{last}".strip("/"), TrialEnding(merchant_id, ends_at))
    elif ends_at <= until:
        draft.change(trial_expired=True)
        draft.publish(f"{merchant_id}/{period}".strip("/"), TrialExpired(merchant_id, ends_at))
