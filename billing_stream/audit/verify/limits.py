"""Commands that a limit refused, according to the log.

Limits are settings, and the log does not say what they were when it was written: a log from
before a limit, or under another one, is as right as one of today. So a command that came from a
topic is not judged by the limit that is set now: whether one refused it, its dead letter says, and
only what must be so under any limit is required: that there was one already. The same holds for
the pack catalogue: which packs there were, the dead letters say.
"""

from uuid import uuid5

from billing_stream.audit.verify.facts import DeadLetterFact, Facts, History
from billing_stream.audit.verify.model_state import NAMESPACE, WEBHOOKS
from billing_stream.audit.verify.shop_names import INVALID_SHOP
from billing_stream.audit.verify.verify_inputs import ParsedCommand

INVALID_PACK = "INVALID_PACK"
# What refused it, the log does not say.
NOT_OPENED = "NOT_OPENED"
TOO_MANY_OPEN = "TOO_MANY_OPEN_PURCHASES"
TOO_MANY_KEYS = "TOO_MANY_REQUESTS"
UNINSTALLED = "MERCHANT_UNINSTALLED"
# Refusals that are not kept as the answer to a key.
NOT_KEPT = (INVALID_PACK, INVALID_SHOP, TOO_MANY_OPEN, UNINSTALLED)
TOO_MANY_EARLY = "TOO_MANY_EARLY_WEBHOOKS"
# Why a webhook is a dead letter though its charge is known.
UNKNOWN_STATUS = "UNKNOWN_STATUS"
PAYMENT_MISMATCH = "PAYMENT_MISMATCH"
TOO_MANY_REFUNDS = "TOO_MANY_REFUNDS"
OF_WEBHOOKS = (UNKNOWN_STATUS, PAYMENT_MISMATCH, TOO_MANY_REFUNDS)
_STARTS = ("trial", "answer")
_LIMITED = ("trial", "reserve", *WEBHOOKS)


def mark_refused_by_limits(history: History) -> None:
    """Say of each command that a limit may refuse which one did.

    One of the journal that opened no purchase was recorded for what fell due with it: nothing in
    the log knows its purchase.
    """
    for facts in history.merchants.values():
        _mark_starts(facts)
        for queue in facts.inputs.values():
            for index, found in enumerate(queue):
                if found.parsed.command in _LIMITED:
                    code = _code_of(history.letters.get(found.ref, ()))
                    parsed = found.parsed._replace(refused_by=code)
                    queue[index] = found._replace(parsed=parsed)
        if any(entry.parsed.command == "reserve" for entry in facts.journal):
            _mark_entries(facts)


def refused(parsed: ParsedCommand, code: str, count: int, most: int) -> bool:
    """Whether a limit refused it: as the log says, or else by the number that is set."""
    return count >= most if parsed.refused_by is None else parsed.refused_by == code and count > 0


def _code_of(letters: "list[DeadLetterFact] | tuple[()]") -> str | None:
    for letter in letters:
        code = letter.reason.partition(":")[0]
        if code in (INVALID_PACK, TOO_MANY_OPEN, TOO_MANY_KEYS, PAYMENT_MISMATCH):
            return code
        if letter.given_up and letter.reason.endswith(f"({TOO_MANY_EARLY})"):
            return TOO_MANY_EARLY
        if letter.given_up:
            # Up to 0.5.1 the reason was the same whether it had waited, or found no room.
            return None
    return ""


def _mark_entries(facts: Facts) -> None:
    known = set(facts.purchases)
    known.update(event.content[1] for event in facts.events)
    known.update(parsed.purchase for parsed, _ in facts.parsed())
    for index, entry in enumerate(facts.journal):
        parsed = entry.parsed
        if parsed.command == "reserve" and purchase_of(parsed) not in known:
            refused = parsed._replace(refused_by=NOT_OPENED)
            facts.journal[index] = entry._replace(parsed=refused)


def _mark_starts(facts: Facts) -> None:
    """Say of each command that may start a trial whether the owner of the shop is asked first.

    TRIAL_ONCE_PER is a setting, too: whether a command started a trial, its event says.
    """
    by = {event.origin_key for event in facts.events if event.kind == "trial.started"}
    causes = {cause for cause, _ in by}
    for queue in facts.inputs.values():
        for index, found in enumerate(queue):
            if found.parsed.command in _STARTS:
                parsed = found.parsed._replace(asks=found.name not in causes)
                queue[index] = found._replace(parsed=parsed)
    for index, entry in enumerate(facts.journal):
        if entry.parsed.command in _STARTS:
            parsed = entry.parsed._replace(asks=(entry.origin, entry.correlation) not in by)
            facts.journal[index] = entry._replace(parsed=parsed)


def purchase_of(parsed: ParsedCommand) -> str:
    """The purchase that a command opens."""
    return str(uuid5(NAMESPACE, f"purchase/{parsed.merchant}/{parsed.command_id}"))
