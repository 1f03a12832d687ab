"""What must hold of merchants that came from the service before this one."""

from decimal import Decimal

from billing_stream.audit.verify.facts import Facts, History
from billing_stream.audit.verify.faults import fault_of
from billing_stream.audit.verify.shop_names import INVALID_SHOP
from billing_stream.audit.verify.verify_report import Report
from billing_stream.records.record_ref import RecordRef

GRANTS = ("credits.purchased", "credits.imported")


def check_imports(history: History, facts: Facts, report: Report) -> None:
    """Brought in iff a command says so, and what a command says is here."""
    brought = [
        parsed.old
        for parsed, found in facts.parsed()
        if parsed.old is not None and not (found and _is_refused(history, found.ref))
    ]
    trials = {(old.started, old.ends) for old in brought if old.used}
    purchases = [purchase for old in brought for purchase in old.purchases]
    paid = {purchase.id for purchase in purchases if purchase.status == "completed"}
    # One that was known keeps its credits and amount when a later import says that it was paid.
    offered = {(p.id, p.credits, Decimal(p.amount), p.platform) for p in purchases if p.id in paid}
    granted = set()
    for event in facts.events:
        if event.kind in GRANTS:
            granted.add(event.content[1])
        if event.kind == "credits.imported" and event.content[1:] not in offered:
            fault_of(report, "credits", "imported, and no import says so", event)
        report.count("trials", event.kind == "trial.imported")
        if event.kind == "trial.imported" and event.content[4] not in trials:
            fault_of(report, "trials", "imported, and no import says so", event)
    for purchase in sorted(paid - granted):
        what = f"purchase {purchase} was imported as paid, and its credits were not granted"
        report.fault("credits", what, facts.row_ref, merchant=facts.merchant)
    if trials and (facts.row or {}).get("trial_available", True):
        what = "an import says that the trial was used, and it is available"
        report.fault("trials", what, facts.row_ref, merchant=facts.merchant)


def mark_refused(history: History) -> None:
    """An import with a purchase that is another merchant's here is refused: it names this one."""
    owners = {
        purchase: facts.merchant
        for facts in history.merchants.values()
        for purchase in facts.purchases
    }
    for facts in history.merchants.values():
        for queue in facts.inputs.values():
            for index, found in enumerate(queue):
                if found.parsed.old is None or not _is_refused(history, found.ref):
                    continue
                for purchase in found.parsed.old.purchases:
                    if history.only or owners.get(purchase.id, facts.merchant) != facts.merchant:
                        parsed = found.parsed._replace(purchase=purchase.id)
                        queue[index] = found._replace(parsed=parsed)
                        break


def imported_trial(facts: Facts) -> tuple[bool, int | None, int | None]:
    """Of a trial that was brought in: whether its start is known, its end to be published,
    and its end that was past by then.
    """
    for event in facts.events:
        if event.kind == "trial.imported" and isinstance(event.content[4], tuple):
            started, ends = event.content[4]
            past = ends is not None and ends <= event.at
            return started is not None, None if past else ends, ends if past else None
    return False, None, None


def _is_refused(history: History, ref: RecordRef) -> bool:
    """Whether nothing of it was done; without the name of a shop, all else was."""
    letters = history.letters.get(ref, ())
    return any(not letter.reason.startswith(INVALID_SHOP) for letter in letters)
