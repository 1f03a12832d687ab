"""The events in PostgreSQL, and the gaps that its projector has stored, against the log."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from billing_stream.audit.verify.event_content import content_of
from billing_stream.audit.verify.facts import Event, History
from billing_stream.audit.verify.log_records import micros_of
from billing_stream.audit.verify.projected_values import marked, rows_of
from billing_stream.audit.verify.verify_report import Report
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef

EVENTS = "billing_events"
GAPS = "projection_gaps"
SHOWN_MAX = 5

SIGNS = {
    "credits.purchased": 1,
    "credits.imported": 1,
    "purchase.refunded": -1,
    "purchase.refund_failed": 1,
    "purchase.disputed": 1,
    "purchase.dispute_closed": 1,
    "credits.adjusted": 1,
}


async def check_events(
    connection: Any, history: History, report: Report, only: str | None, *, accepted: bool
) -> None:
    """Compare every event, and find events that neither the table nor the log has any more.

    `accepted`: an operator has accepted gaps, so that holes are a note.
    """
    missing = {e.id: e for facts in history.merchants.values() for e in facts.events}
    sequences: dict[str, set[int]] = {}
    async for found in rows_of(connection, EVENTS, only):
        report.count("projection")
        event_id, merchant = str(found["event_id"]), str(found["merchant_id"])
        sequences.setdefault(merchant, set()).add(found["sequence"])
        missing.pop(event_id, None)
        event = history.ids.get(event_id)
        if event is not None:
            for what in _odd(found, event):
                what = f"{EVENTS}: {what}"
                report.fault("projection", what, event.ref, event_id=event_id, merchant=merchant)
        elif not history.allow_lag and found["topic"] not in history.cut:
            what = f"{EVENTS}: an event that the log has not"
            report.fault("projection", what, event_id=event_id, merchant=merchant)
    if history.allow_lag:
        return
    for event in missing.values():
        what = f"{EVENTS}: the event is missing"
        report.fault("projection", what, event.ref, event_id=event.id, merchant=event.merchant)
    _check_holes(history, report, sequences, {e.merchant for e in missing.values()}, accepted)


async def check_gaps(connection: Any, report: Report) -> bool:
    """Report the gaps that the projector has stored; whether some of them are accepted."""
    if await connection.fetchval("SELECT to_regclass($1)", GAPS) is None:
        return False
    accepted = 0
    async for gap in rows_of(connection, GAPS, None):
        ref = RecordRef(gap["topic"], gap["partition"], gap["from_offset"])
        if gap["accepted_at"] is not None:
            accepted += 1
            continue
        what = f"a gap ({gap['kind']}) up to offset {gap['to_offset'] - 1}, not accepted"
        report.fault("projection", what, ref)
    if accepted:
        report.notes.append(f"the projection has {accepted} gaps that operators have accepted")
    return bool(accepted)


def _check_holes(
    history: History,
    report: Report,
    sequences: Mapping[str, set[int]],
    reported: set[str],
    accepted: bool,
) -> None:
    """By the merchant's row there were more events than the table has."""
    noted = 0
    for facts in history.merchants.values():
        # A row that is not there is reported as such; events of the log that are missing, too.
        if facts.row is None or facts.merchant in reported:
            continue
        known = sequences.get(facts.merchant, set())
        if len(known) >= facts.sequence:
            continue
        holes = [n for n in range(1, facts.sequence + 1) if n not in known]
        if accepted:
            noted += 1
            continue
        listed = ", ".join(map(str, holes[:SHOWN_MAX]))
        more = f" and {len(holes) - SHOWN_MAX} more" if len(holes) > SHOWN_MAX else ""
        what = f"{EVENTS}: sequences {listed}{more} are missing, and not in the log any more"
        report.fault("projection", what, merchant=facts.merchant)
    if noted:
        report.notes.append(f"the projection lacks events of {noted} merchants, by accepted gaps")


def _odd(found: Mapping[str, Any], event: Event) -> Iterator[str]:
    credits = event.content[2]
    wanted = {
        "merchant_id": event.merchant,
        "event_type": names.event_type(event.kind),
        "sequence": event.sequence,
        "cause": marked(event.cause),
        "correlation_id": marked(event.correlation),
        "credits_delta": SIGNS.get(event.kind, 0) * credits,
        "topic": event.ref.topic,
        "partition": event.ref.partition,
        "offset": event.ref.offset,
    }
    for name, value in wanted.items():
        projected = found[name] if isinstance(found[name], int) else str(found[name] or "")
        if projected != value:
            yield f"{name} is {found[name]}, in the log {value}"
    if micros_of(found["at"]) != event.at:
        yield f"at is {found['at']}, otherwise in the log"
    try:
        content = content_of(event.kind, json.loads(found["data"]))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        content = None
    if content != tuple(map(marked, event.content)):
        yield "data says something else than the log"
