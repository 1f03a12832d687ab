"""The contract of the trial as a plain state machine, for `verify_model`."""

import uuid
from collections.abc import Iterator

from billing_stream.audit.verify.model_state import (
    DAY_US,
    NAMESPACE,
    EventContent,
    ExtensionState,
    Rules,
    State,
)
from billing_stream.audit.verify.shop_trials import FOUND, STARTED, USED, TrialClaim, shop_key
from billing_stream.audit.verify.verify_inputs import TRIAL_DAYS_MAX, ParsedCommand

EXTENSIONS_MAX = 100


def let_time_pass(me: State, rules: Rules, now: int, by: int) -> Iterator[EventContent]:
    """What fell due by `by`: its end; and before that once that it comes, while it has not come."""
    if me.ends is None or me.ended:
        return
    soon = me.ends - rules.reminder_us
    long_enough = me.started is None or me.started <= soon
    knows = now >= rules.reminded_from
    if soon <= by and now < me.ends and long_enough and knows and not me.reminded:
        me.reminded = True
        yield "trial.ending", "", 0, None, me.ends
    if me.ends <= by:
        me.ended = True
        yield "trial.expired", "", 0, None, me.ends


def extension_id(parsed: ParsedCommand) -> str:
    """Of merchant and key, so that a key has one permanently."""
    return str(uuid.uuid5(NAMESPACE, f"trial.extension/{parsed.merchant}/{parsed.key}"))


def extend(
    me: State, rules: Rules, now: int, parsed: ParsedCommand
) -> tuple[str | None, list[EventContent]]:
    """The refusal of an extension, or its event: once per key."""
    name, days = extension_id(parsed), parsed.number or None
    for made in me.extensions:
        if made.id == name:
            same = (made.days, parsed.ends or made.ends) == (days, made.ends)
            return (None if same and made.reason == parsed.text else "IDEMPOTENCY_KEY_REUSED"), []
    if not me.used or len(me.extensions) >= EXTENSIONS_MAX:
        return "TRIAL_NOT_EXTENDABLE", []
    runs = me.ends is not None and not me.ended
    least = me.ends if runs and me.ends is not None else now
    ends = parsed.ends if days is None else least + days * DAY_US
    if ends is None or not least < ends <= now + TRIAL_DAYS_MAX * DAY_US:
        return "INVALID_TRIAL_END", []
    last = me.extensions[-1].period if me.extensions else ""
    period = last if runs else name
    me.extensions += (ExtensionState(name, ends, now, parsed.text, days, period),)
    began = [made.at for made in me.extensions if made.id == period]
    me.ends, me.ended = ends, False
    # The first period may be short, too: that is known by its start.
    me.reminded = bool(began) and ends - began[0] < rules.reminder_us
    return None, [("trial.extended", name, 0, None, (ends, parsed.note))]


def ask_owner(me: State, parsed: ParsedCommand) -> tuple[bool, str | None]:
    """Whether a start waits for the owner of the shop, and its refusal; the state has the claim."""
    if me.shop_id is None:
        return False, None
    shop, claim = shop_key(me.platform, me.shop_id), me.claim
    if claim is not None and claim.granted is None:
        return True, None
    if claim is None or claim.shop != shop:
        me.claim = TrialClaim(shop, None, parsed.command_id, parsed.key)
        return True, None
    return False, None if claim.granted else USED


def claim_used(me: State, was_used: bool, command: str) -> str | None:
    """Why a used trial is claimed at the owner of the shop, whatever the settings are; or None."""
    if me.shop_id is None or not me.used:
        return None
    shop = shop_key(me.platform, me.shop_id)
    known = me.claim if me.claim is not None and me.claim.shop == shop else None
    started = not was_used and command != "import"
    if known is not None and (known.granted or not started):
        return None
    me.claim = known or TrialClaim(shop)
    return STARTED if started else FOUND
