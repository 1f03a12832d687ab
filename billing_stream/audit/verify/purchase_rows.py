"""What the rows of purchases say against the events about them, in whatever order they came."""

from collections import defaultdict
from collections.abc import Iterator

from billing_stream.audit.verify.facts import Facts
from billing_stream.audit.verify.imported import GRANTS
from billing_stream.audit.verify.verify_report import Report

UNPAID = {"purchase.failed": "failed", "purchase.expired": "expired"}
PAID = ("completed", "refunded")


def check_purchase_rows(facts: Facts, report: Report) -> None:
    """Paid if and only if granted, refunded by as much as was published, else as it ended."""
    report.count("tables", len(facts.purchases))
    for what in _differences(facts):
        report.fault("tables", what, facts.row_ref, merchant=facts.merchant)


def _differences(facts: Facts) -> Iterator[str]:
    ended: dict[str, str] = {}
    granted: set[str] = set()
    refunded: dict[str, int] = defaultdict(int)
    for event in facts.events:
        kind, purchase, credits, *_ = event.content
        if kind in GRANTS:
            granted.add(purchase)
        elif kind == "purchase.refunded":
            refunded[purchase] += credits
        elif kind in UNPAID:
            ended[purchase] = UNPAID[kind]
    for purchase, row in facts.purchases.items():
        status, back = row.get("status"), row.get("refunded_credits", 0)
        if (status in PAID) != (purchase in granted):
            yield f"purchase {purchase}: status: {status}, and its events say otherwise"
        elif purchase in ended and purchase not in granted and status != ended[purchase]:
            yield f"purchase {purchase}: status: {status}, not {ended[purchase]}"
        if back != refunded[purchase]:
            yield f"purchase {purchase}: refunded_credits: {back}, not {refunded[purchase]}"
