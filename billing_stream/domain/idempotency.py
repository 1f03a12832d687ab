"""Rules of idempotency keys: the first answer is the answer."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from billing_stream.domain import adjustments
from billing_stream.domain.commands import (
    AdjustCredits,
    Command,
    ExtendTrial,
    ReservePurchase,
    SetShop,
    StartTrial,
)
from billing_stream.domain.draft import Draft
from billing_stream.domain.ids import fingerprint
from billing_stream.domain.outcomes import (
    ErrorCode,
    PurchaseOpened,
    Rejected,
    Reply,
    StoredResponse,
    TrialAsked,
)
from billing_stream.domain.purchases import opening
from billing_stream.domain.state import Rows
from billing_stream.domain.trial_extensions import made_by

Asked = TypeVar("Asked", StartTrial, ReservePurchase, SetShop)

# Nothing is kept for a request that may be sent again: corrected, when there is room, or when
# the app is installed again.
NOT_KEPT = frozenset(
    {
        ErrorCode.INVALID_PACK,
        ErrorCode.INVALID_SHOP,
        ErrorCode.TOO_MANY_OPEN_PURCHASES,
        ErrorCode.MERCHANT_UNINSTALLED,
    }
)
# Refusals about a key or a merchant: never the stored answer to the key.
_NOT_STORED = frozenset({ErrorCode.IDEMPOTENCY_KEY_REUSED, ErrorCode.MERCHANT_NOT_FOUND})


def answered_at(rows: Rows, command: Command) -> datetime | None:
    """When the answer to the command's key was given, if one is stored."""
    if isinstance(command, AdjustCredits):
        made = rows.adjustment(adjustments.id_of(command))
        return made.created_at if made is not None else None
    if isinstance(command, ExtendTrial):
        merchant = rows.merchant(command.merchant_id)
        extension = made_by(merchant, command) if merchant is not None else None
        return extension.at if extension is not None else None
    key = getattr(command, "idempotency_key", None)
    answer = rows.answer(command.merchant_id, key) if key is not None else None
    return answer.at if answer is not None else None


def is_kept(reply: Reply) -> bool:
    """Whether the reply to a key that has a stored answer is that answer."""
    return not (isinstance(reply, Rejected) and reply.code in _NOT_STORED)


def idempotent(draft: Draft, command: Asked, rule: Callable[[Draft, Asked], Reply]) -> Reply:
    """The stored answer to the command's key, or else the rule's answer, now stored.

    Refuses the key with other parameters, and more keys at once than are kept.
    """
    key = command.idempotency_key
    if key is None:
        return rule(draft, command)
    asked = _fingerprint(command)
    _forget_old(draft)
    stored = draft.rows.answer(draft.merchant.merchant_id, key)
    if stored is not None and not _too_old(draft, stored):
        if stored.fingerprint != asked:
            message = "the idempotency key was used with other parameters"
            return Rejected(ErrorCode.IDEMPOTENCY_KEY_REUSED, message)
        return _current(draft, stored.reply)
    # Operators are not refused for what the merchant's clients ask.
    limited = not isinstance(command, SetShop)
    if limited and draft.answer_count() >= draft.policy.answers_max:
        message = "too many idempotency keys within the time they are kept"
        return Rejected(ErrorCode.TOO_MANY_REQUESTS, message)
    reply = rule(draft, command)
    if not _is_for_now(reply):
        draft.remember(StoredResponse(draft.merchant.merchant_id, key, asked, reply, draft.now))
    return reply


def _is_for_now(reply: Reply) -> bool:
    return isinstance(reply, TrialAsked) or (isinstance(reply, Rejected) and reply.code in NOT_KEPT)


def _current(draft: Draft, reply: Reply) -> Reply:
    """A purchase's answer has its checkout from the moment that a charge is attached."""
    if not isinstance(reply, PurchaseOpened):
        return reply
    purchase = draft.purchase(reply.purchase_id)
    return opening(purchase) if purchase else reply


def _fingerprint(command: StartTrial | ReservePurchase | SetShop) -> str:
    if isinstance(command, StartTrial):
        return fingerprint("start_trial")
    if isinstance(command, SetShop):
        return fingerprint("set_shop", command.platform, command.domain, command.reason)
    asked = (command.pack, command.platform, command.return_url)
    # As before there were these, so that a key is the same for both sides of an upgrade.
    more: tuple[str, ...] = () if command.currency is None else (command.currency,)
    if command.cancel_url:
        more += ("cancel_url", command.cancel_url)
    return fingerprint("reserve_purchase", *asked, *more)


def _too_old(draft: Draft, answer: StoredResponse) -> bool:
    return answer.at <= draft.now - draft.policy.answer_retention


def _forget_old(draft: Draft) -> None:
    for answer in draft.rows.answers(draft.merchant.merchant_id):
        if not _too_old(draft, answer):
            break
        draft.forget(answer.key)
