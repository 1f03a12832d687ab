"""Records on which a rule failed in a worker: they are dead letters, and did nothing."""

from billing_stream.audit.verify.facts import History
from billing_stream.audit.verify.verify_report import Report

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
