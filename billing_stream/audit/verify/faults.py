"""Faults as several checks report them."""

from billing_stream.audit.verify.facts import Event, History
from billing_stream.audit.verify.verify_report import Report
from billing_stream.records.record_ref import RecordRef


def fault_of(report: Report, check: str, what: str, event: Event) -> None:
    """A fault of an event."""
    report.fault(check, what, event.ref, event_id=event.id, merchant=event.merchant)


def unprocessed(history: History, report: Report, ref: RecordRef, what: str, merchant: str) -> None:
    """A record below its position that has no outcome: a fault of both."""
    report.fault("outcomes", what, ref, merchant=merchant or None)
    position = history.position(*ref[:2])
    report.fault(
        "positions",
        f"the position {position} is beyond it, and it has no outcome: {what}",
        ref,
        merchant=merchant or None,
    )
