"""The trial of a shop over HTTP, where TRIAL_ONCE_PER is `shop`: its owner decides who has it."""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from billing_stream.domain.commands import StartTrial
from billing_stream.domain.model import Merchant
from billing_stream.domain.outcomes import TimedReply, TrialAsked
from billing_stream.domain.policy import OncePer
from billing_stream.domain.shop_trials import shop_of
from billing_stream.web.envelope import Ids, not_ready
from billing_stream.web.owners import FindShopTrial, PartitionRouter, ReadMerchant

# A request looks so often whether the owner of its shop has answered: for five seconds.
LOOKS_MAX = 250
LOOK_SECONDS = 0.02


async def answer_of_owner(
    owners: PartitionRouter,
    command: StartTrial,
    commit: Callable[[StartTrial], Awaitable[TimedReply]],
) -> TimedReply:
    """The answer to a start that waits for the owner of the shop, by the merchant's row.

    Raises ApiError (NOT_READY) when the owner takes too long. The start waits on in the row, and a
    repetition with the same idempotency key gets its answer.
    """
    for _ in range(LOOKS_MAX):
        if not _waits(owners.read_locally(ReadMerchant(command.merchant_id)).merchant):
            break
        await asyncio.sleep(LOOK_SECONDS)
    answered = await commit(command)
    if isinstance(answered.reply, TrialAsked):
        raise not_ready(
            "whether the shop had a trial is not known yet. The request waits: a repetition with "
            "the same idempotency key gets its answer"
        )
    # It is stored by then, and nobody was told of it before.
    return replace(answered, replayed=False)


async def is_available(
    owners: PartitionRouter, once_per: OncePer, merchant: Merchant, ids: Ids
) -> bool:
    """Whether the merchant may start a trial, as the owner of its shop knows it.

    Raises ApiError (NOT_READY) where the owner does not answer.
    """
    shop = shop_of(merchant) if once_per is OncePer.SHOP else None
    if shop is None or not merchant.trial_available:
        return merchant.trial_available
    first = (await owners.read(FindShopTrial(shop), ids)).merchant_id
    return first in (None, merchant.merchant_id)


def _waits(merchant: Merchant | None) -> bool:
    claim = merchant.shop_trial if merchant is not None else None
    return claim is not None and claim.granted is None
