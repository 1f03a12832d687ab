"""What the rows of purchases say against the events about them, in whatever order they came."""

from collections import defaultdict
from collections.abc import Iterator

from billing_stream.audit.verify.facts import Facts
from billing_stream.audit.verify.imported import GRANTS
from billing_stream.audit.verify.verify_report import Report

# Of money that goes back: how its credits count.
RETURNED = {
    "purchase.refunded": -1,
    "purchase.refund_failed": 1,
    "purchase.disputed": 1,
    "purchase.dispute_closed": 1,
}
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
    taken: dict[str, int] = defaultdict(int)
    for event in facts.events:
        kind, purchase, credits, *_ = event.content
        if kind in GRANTS:
            granted.add(purchase)
        elif kind in RETURNED:
            taken[purchase] -= RETURNED[kind] * credits
        elif kind in UNPAID:
            ended[purchase] = UNPAID[kind]
    for purchase, row in facts.purchases.items():
        status, disputed = row.get("status"), row.get("disputed_credits", 0)
        back = row.get("refunded_credits", 0)
        if (status in PAID) != (purchase in granted):
            yield f"purchase {purchase}: status: {status}, and its events say otherwise"
        elif purchase in ended and purchase not in granted and status != ended[purchase]:
            yield f"purchase {purchase}: status: {status}, not {ended[purchase]}"
        # Rounded down together, so that only their sum is that of the events.
        if back + disputed != taken[purchase]:
            also = " and disputed_credits" if disputed else ""
            what = f"refunded_credits{also}: {back + disputed}, not {taken[purchase]}"
            yield f"purchase {purchase}: {what}"
