"""Valid input records that did nothing, and are dead letters.

An operator had the lane skip them, a rule failed on them, or their release took them as invalid.
"""

import re
from collections.abc import Sequence

from billing_stream.audit.verify.facts import DeadLetterFact, History
from billing_stream.audit.verify.verify_report import Report
from billing_stream.records.record_ref import RecordRef

SKIPPED = "SKIPPED: "


def leave_out_skipped(history: History) -> None:
    """Remove records that were skipped: they had no effect."""
    for facts in history.merchants.values():
        for topic, queue in facts.inputs.items():
            facts.inputs[topic] = [
                found for found in queue if not _says_skipped(history, found.ref)
            ]
    for ref in [ref for ref in history.foreign if _says_skipped(history, ref)]:
        del history.foreign[ref]


def check_operator_commands(history: History, report: Report) -> None:
    """Each skip that was not rejected has its dead letter, and no other record says it was."""
    skipped: dict[RecordRef, RecordRef] = {}
    for ref, target in history.operator_commands.items():
        report.count("dead-letters")
        if target is None or history.letters.get(ref):
            continue
        skipped[target] = ref
        if not _says_skipped(history, target):
            report.fault("dead-letters", f"was skipped by {ref}, and is not a dead letter", target)
    for ref, letters in history.letters.items():
        if history.is_read(*ref) and _says_skipped(history, ref):
            by = skipped.get(ref)
            if by is None or str(by) not in letters[0].reason:
                report.fault(
                    "dead-letters", "says that it was skipped by a command", letters[0].ref
                )


def _says_skipped(history: History, ref: RecordRef) -> bool:
    letters = history.letters.get(ref)
    return letters is not None and letters[0].reason.startswith(SKIPPED)


REASON = "INTERNAL_ERROR: "


def leave_out(history: History) -> None:
    """Remove these records: no effect of them is expected until they are redriven."""
    for facts in history.merchants.values():
        for queue in facts.inputs.values():
            for found in list(queue):
                letters = history.letters.get(found.ref, ())
                if any(letter.reason.startswith(REASON) for letter in letters):
                    queue.remove(found)
                    history.failed.append(found.ref)


def note(history: History, report: Report) -> None:
    """Say how many there are."""
    if history.failed:
        report.notes.append(
            f"{len(history.failed)} records did nothing, because a rule failed on them, e.g. "
            f"{min(history.failed)}; redrive them with `billing-stream dlq redrive`"
        )


# Up to 0.5.1: zeros beyond the sixth decimal; in commands, amounts that are numbers; the name of
# a shop that is missing, empty or long.
_AMOUNT = "the amount is not a sum of money"
_AMOUNT_OF_A_COMMAND = ("Expected `str", "at `$.amount`")
_NAME = re.compile(
    r"Expected `str.* - at `\$\.(platform|platform_name|domain)`"
    r"|Object missing required field `(platform_name|domain)`.*"
)


def leave_out_older(history: History) -> None:
    """Take out records that were invalid by the rules of their release; they did nothing."""
    for facts in history.merchants.values():
        for queue in facts.inputs.values():
            bad = [found for found in queue if _is_older(history.letters.get(found.ref, ()))]
            for found in bad:
                queue.remove(found)
                history.bad[found.ref] = found.digest
                history.bad_reasons[found.ref] = _AMOUNT


def _is_older(letters: Sequence[DeadLetterFact]) -> bool:
    if not letters:
        return False
    begins, ends = _AMOUNT_OF_A_COMMAND
    reason = letters[0].reason
    return (
        reason == _AMOUNT
        or (reason.startswith(begins) and reason.endswith(ends))
        or _NAME.fullmatch(reason) is not None
    )
