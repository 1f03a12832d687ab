"""Rules of claims to the trials of shops: what their owners answer, and what was used already."""

from billing_stream.domain import trials
from billing_stream.domain.commands import AnswerTrialClaim, Command, ImportMerchant, StartTrial
from billing_stream.domain.draft import Draft
from billing_stream.domain.idempotency import idempotent
from billing_stream.domain.model import Merchant, ShopTrial
from billing_stream.domain.outcomes import Done, Reply
from billing_stream.domain.shop_trial import ClaimCause
from billing_stream.domain.shop_trials import claim, shop_of


def answer(draft: Draft, command: AnswerTrialClaim) -> Reply:
    """Note what the owner of the shop says, and carry out the request that waited for it."""
    merchant = draft.merchant
    known = merchant.shop_trial
    if known is None or known.shop != command.shop or known.granted is not None:
        return Done()
    # Where a trial was brought in meanwhile, the request did not start it.
    asked_by = known.asked_by if merchant.trial_available else ""
    draft.change(shop_trial=ShopTrial(known.shop, command.granted, asked_by))
    if known.asked_by and merchant.forgotten_at is None:
        waited = StartTrial(merchant.merchant_id, known.idempotency_key, known.asked_by)
        idempotent(draft, waited, trials.start)
    return Done()


def claim_used(draft: Draft, before: Merchant, command: Command) -> None:
    """Claim the trial of a shop for a merchant that has used its own.

    That is so whatever the settings say, so that they may change later. `before` is the row before
    this decision.
    """
    started = before.trial_available and not isinstance(command, ImportMerchant)
    shop, known = shop_of(draft.merchant), draft.merchant.shop_trial
    is_same = known is not None and known.shop == shop
    if shop is None or (known is not None and is_same and (known.granted or not started)):
        return
    if not is_same:
        draft.change(shop_trial=ShopTrial(shop))
    claim(draft, shop, ClaimCause.STARTED if started else ClaimCause.FOUND)
