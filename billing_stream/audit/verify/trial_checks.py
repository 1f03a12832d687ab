"""What must hold of trials in whatever order things happened."""

from billing_stream.audit.verify.facts import Facts, History
from billing_stream.audit.verify.faults import fault_of, unprocessed
from billing_stream.audit.verify.imported import imported_trial
from billing_stream.audit.verify.shop_trials import ASKED
from billing_stream.audit.verify.trial_model import extension_id
from billing_stream.audit.verify.verify_report import Report


def check_trial(history: History, facts: Facts, report: Report) -> None:
    """Started iff asked for, announced and ended at its end; the row says so, too."""
    row = facts.row or {}
    started = next((e for e in facts.events if e.kind == "trial.started"), None)
    dated, _, past = imported_trial(facts)
    report.count("trials", started is not None)
    asked = [
        found
        for parsed, found in facts.parsed()
        if parsed.command == "trial" and (found is None or found.ref not in history.letters)
    ]
    if started is not None and not asked:
        fault_of(report, "trials", "no command asked for this trial", started)
    # Of one that waits for the owner of its shop the rest is a check of its own.
    waits = any(claim.why == ASKED for claim in history.shop_trials.of(facts.merchant))
    if started is None and not waits:
        for found in asked:
            if found is not None:
                what = "the trial was asked for, not refused and not started"
                report.fault("trials", what, found.ref, merchant=facts.merchant)
                unprocessed(history, report, found.ref, what, facts.merchant)
    ends = _ends(facts)
    made_by = {extension_id(p): p for p, _ in facts.parsed() if p.command == "extend"}
    for event in facts.events:
        if event.kind == "trial.expired" and event.content[4] not in ends:
            fault_of(report, "trials", "the trial ended that was never started so", event)
        if event.kind == "trial.ending" and event.content[4] not in ends:
            fault_of(report, "trials", "the trial does not end then", event)
        if event.kind == "trial.extended" and event.subject not in made_by:
            fault_of(report, "trials", "no command asked for this extension", event)
    ended = runs(facts) is None and (bool(ends) or past is not None)
    for known, field in (
        (started is not None or dated, "trial_started_at"),
        (ended, "trial_expired"),
    ):
        if known != bool(row.get(field)):
            what = f"{field} is {row.get(field)} in the row, and an event says otherwise"
            report.fault("trials", what, facts.row_ref, merchant=facts.merchant)


def runs(facts: Facts) -> int | None:
    """The end of a merchant's trial of which no expiry is published, or None."""
    published = {event.content[4] for event in facts.events if event.kind == "trial.expired"}
    last = max(_ends(facts), default=None)
    return None if last in published else last


def _ends(facts: Facts) -> set[int]:
    """All ends that the trial had, but for an imported one that was past by then."""
    _, left, _ = imported_trial(facts)
    found = {left, *(e.content[4] for e in facts.events if e.kind == "trial.started")}
    for event in facts.events:
        if event.kind == "trial.extended" and isinstance(event.content[4], tuple):
            found.add(event.content[4][0])
    return {end for end in found if isinstance(end, int)}
