"""Commands of operators about inputs, and the records that they had a lane pass over.

A skipped record is a dead letter that names the command, and does nothing else.
"""

from billing_stream.audit.verify.facts import History
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
            report.fault("dead-letters", f"was skipped by {ref}, and is no dead letter", target)
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
