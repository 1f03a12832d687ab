"""Rules of the trial of a shop: a start asks the owner of the shop, and waits for the answer."""

from billing_stream.domain.commands import StartTrial
from billing_stream.domain.draft import Draft
from billing_stream.domain.model import Merchant, ShopTrial
from billing_stream.domain.outcomes import (
    ErrorCode,
    Rejected,
    Reply,
    TrialAsked,
    TrialClaimed,
    TrialGranted,
)
from billing_stream.domain.policy import OncePer
from billing_stream.domain.shop_trial import ClaimCause, shop_trial_key


def shop_of(merchant: Merchant) -> str | None:
    """The key of the merchant's shop, or None where its platform's own id is unknown."""
    if merchant.platform_shop_id is None:
        return None
    return shop_trial_key(merchant.platform, merchant.platform_shop_id)


def ask(draft: Draft, command: StartTrial) -> Reply | None:
    """Ask the owner of the shop, once; None: the trial may start now.

    The request waits in the merchant's row, one at a time. An unknown shop is not asked for.
    """
    merchant, policy = draft.merchant, draft.policy
    shop = shop_of(merchant) if policy.trial_once_per is OncePer.SHOP else None
    if shop is None:
        return None
    known = merchant.shop_trial
    if known is not None and known.granted is None:
        return TrialAsked()
    if known is None or known.shop != shop:
        asked = ShopTrial(shop, None, command.command_id, command.idempotency_key)
        draft.change(shop_trial=asked)
        claim(draft, shop, ClaimCause.ASKED)
        return TrialAsked()
    if known.granted:
        return None
    message = "the free trial of this shop was used already"
    return Rejected(ErrorCode.TRIAL_ALREADY_USED, message)


def started_by(draft: Draft, command: StartTrial) -> TrialGranted | None:
    """The answer to a command that is repeated because it had to wait for the owner."""
    merchant = draft.merchant
    claim, started_at, policy = merchant.shop_trial, merchant.trial_started_at, draft.policy
    if claim is None or started_at is None or not claim.asked_by:
        return None
    if claim.asked_by != command.command_id:
        return None
    return TrialGranted(started_at + policy.trial_duration, policy.trial_credits)


def claim(draft: Draft, shop: str, why: ClaimCause) -> None:
    """Claim the trial of the shop at its owner."""
    merchant_id, once_per = draft.merchant.merchant_id, draft.policy.trial_once_per
    draft.trial_claims.append(TrialClaimed(shop, merchant_id, why, once_per))
