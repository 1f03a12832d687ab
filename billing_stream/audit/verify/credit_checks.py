"""What must hold of credits, payments and adjustments, in whatever order things happened."""

import uuid
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from billing_stream.audit.verify.facts import Event, Facts, History
from billing_stream.audit.verify.faults import fault_of, unprocessed
from billing_stream.audit.verify.imported import GRANTS
from billing_stream.audit.verify.model_state import NAMESPACE, PAID, WEBHOOKS
from billing_stream.audit.verify.purchase_rows import RETURNED
from billing_stream.audit.verify.verify_report import Report
from billing_stream.records.record_ref import RecordRef

# Of money that goes back: which command has it.
_CAUSES = {
    "purchase.refunded": "refund",
    "purchase.refund_failed": "refund_failed",
    "purchase.disputed": "dispute",
    "purchase.dispute_closed": "dispute",
}


def check_credits(facts: Facts, report: Report) -> None:
    """The total is what was granted less what was refunded, each as the purchase's row says."""
    granted: dict[str, Event] = {}
    left: dict[str, int] = defaultdict(int)
    total = 0
    for event in facts.events:
        kind, purchase, credits, *_ = event.content
        if kind in GRANTS:
            granted[purchase] = event
            left[purchase] += credits
            row = facts.purchases.get(purchase)
            if row is not None and not _is_sold_so(row, event):
                fault_of(report, "credits", "the purchase's row says otherwise", event)
        elif kind in RETURNED:
            credits *= RETURNED[kind]
            left[purchase] += credits
            grant = granted.get(purchase)
            if grant is None:
                fault_of(report, "credits", "a refund of what was never granted", event)
            elif not 0 <= left[purchase] <= grant.content[2]:
                fault_of(report, "credits", "more is refunded than was paid", event)
        else:
            continue
        total += credits
    report.count("credits", len(granted))
    recorded = (facts.row or {}).get("total_credits_purchased", 0)
    if recorded != total:
        what = f"the total is {recorded}, granted less refunded is {total}"
        report.fault("credits", what, facts.row_ref, merchant=facts.merchant)


def check_adjustments(facts: Facts, report: Report) -> None:
    """Each was asked for so, and the row holds their sum."""
    asked = {
        (str(uuid.uuid5(NAMESPACE, f"adjustment/{facts.merchant}/{parsed.key}")), parsed.number)
        for parsed, _ in facts.parsed()
        if parsed.command == "adjust"
    }
    total = 0
    for event in facts.events:
        if event.kind == "credits.adjusted":
            total += event.content[2]
            if event.content[1:3] not in asked:
                fault_of(report, "credits", "no command asked for this adjustment", event)
    recorded = (facts.row or {}).get("credits_adjusted", 0)
    if recorded != total:
        what = f"credits_adjusted is {recorded}, the adjustments add up to {total}"
        report.fault("credits", what, facts.row_ref, merchant=facts.merchant)


def check_payments(history: History, facts: Facts, report: Report) -> None:
    """Granted iff paid, refunded only when a refund came, expired or failed only if opened."""
    paid: dict[str, RecordRef | None] = {}
    came_back: dict[str, set[str]] = {command: set() for command in WEBHOOKS[1:]}
    refunded: set[str | None] = set()
    given_up: set[str] = set()
    for parsed, found in facts.parsed():
        report.count("outcomes")
        if found is not None and history.letters.get(found.ref):
            given_up.add(parsed.charge)
        elif parsed.command in WEBHOOKS[1:] and (parsed.amount is None or Decimal(parsed.amount)):
            came_back[parsed.command].update((parsed.charge, parsed.purchase))
            # One that came from no topic has no dead letter that says that nobody claimed it.
            if not parsed.purchase and parsed.command != "refund_failed" and found is not None:
                refunded.add(parsed.charge)
        elif parsed.command == "update" and parsed.text.strip().lower() in PAID:
            paid[parsed.charge] = found.ref if found is not None else paid.get(parsed.charge)
    granted = {e.content[1]: e for e in facts.events if e.kind in GRANTS}
    for event in facts.events:
        purchase = event.content[1]
        if not purchase:
            continue
        charge = facts.purchases.get(purchase, {}).get("platform_charge_id")
        proofs = paid.keys() | came_back["refund"] | came_back["dispute"]
        if event.kind == "credits.purchased" and not {charge, purchase} & proofs:
            fault_of(report, "credits", "granted, and no payment came", event)
        cause = _CAUSES.get(event.kind)
        if cause is not None and not {charge, purchase} & came_back[cause]:
            fault_of(report, "credits", f"refunded, and no {cause} came", event)
    for purchase, row in facts.purchases.items():
        charge = row.get("platform_charge_id")
        came = charge is not None and (paid.get(charge) is not None or charge in refunded)
        if came and purchase not in granted and charge not in given_up:
            what = f"purchase {purchase} was paid, and its credits were not granted"
            ref = paid.get(charge or "")
            report.fault("credits", what, ref, merchant=facts.merchant)
            if ref is not None:
                unprocessed(history, report, ref, what, facts.merchant)


def _is_sold_so(row: Mapping[str, Any], event: Event) -> bool:
    said = [row.get(name) for name in ("currency", "pack", "catalogue_version")]
    sold = (row["credits"], Decimal(row["amount"]), row["platform"])
    known = all(None in pair or len(set(pair)) == 1 for pair in zip(said, event.sold, strict=True))
    return known and sold == event.content[2:]
