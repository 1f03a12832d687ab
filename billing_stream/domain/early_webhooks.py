"""Rules of webhooks that wait at their merchant for a purchase with their charge."""

from billing_stream.domain.draft import Draft


def expire(draft: Draft) -> None:
    """Report webhooks with a charge that no purchase claimed in time."""
    waiting = draft.merchant.parked
    limit = draft.now - draft.policy.early_webhook_expiry
    if waiting[0].at > limit:
        return
    draft.change(parked=tuple(parked for parked in waiting if parked.at > limit))
    for parked in waiting:
        if parked.at <= limit:
            draft.expire_parked(parked)
