"""What must hold in whatever order things happened. Each function is one check or two."""

from collections import defaultdict

from billing_stream.audit.verify import skipped_records
from billing_stream.audit.verify.check_charges import check_charges
from billing_stream.audit.verify.check_shop_trials import check_shop_trials
from billing_stream.audit.verify.credit_checks import (
    check_adjustments,
    check_credits,
    check_payments,
)
from billing_stream.audit.verify.facts import (
    TOPIC_CHANGED,
    DeadLetterFact,
    Facts,
    History,
    Input,
    input_of,
)
from billing_stream.audit.verify.faults import fault_of, unprocessed
from billing_stream.audit.verify.imported import check_imports
from billing_stream.audit.verify.limits import OF_WEBHOOKS
from billing_stream.audit.verify.log_records import micros
from billing_stream.audit.verify.model_state import WEBHOOKS, Rules
from billing_stream.audit.verify.purchase_rows import check_purchase_rows
from billing_stream.audit.verify.redriven import check_redriven, other_than_parked
from billing_stream.audit.verify.shop_names import INVALID_SHOP
from billing_stream.audit.verify.skipped_records import check_operator_commands
from billing_stream.audit.verify.sold_terms import note_other_terms
from billing_stream.audit.verify.trial_checks import check_trial
from billing_stream.audit.verify.verify_report import Report
from billing_stream.audit.verify.verify_shops import check_shops
from billing_stream.records.record_ref import RecordRef


def check_all(history: History, rules: Rules, report: Report) -> None:
    """Every check but the replay and the projection."""
    for trouble in history.troubles:
        report.fault(
            trouble.check,
            trouble.what,
            trouble.ref,
            event_id=trouble.event_id,
            merchant=trouble.merchant,
        )
    report.count("formats", history.counted["records"])
    report.count("event-ids", history.counted["events"])
    check_positions(history, report)
    check_dead_letters(history, rules, report)
    check_forwarded(history, report)
    check_redriven(history, report)
    check_operator_commands(history, report)
    check_shops(history, report)
    check_charges(history, report)
    check_shop_trials(history, report)
    skipped_records.note(history, report)
    note_other_terms(history, rules.catalogue, report)
    for facts in history.merchants.values():
        report.count("versions", 1 + len(facts.purchases))
        check_once(facts, report)
        if facts.partition not in history.incomplete:
            check_sequences(facts, report)
            check_causes(history, facts, report)
            check_journal(facts, report)
            check_trial(history, facts, report)
            check_credits(facts, report)
            check_purchase_rows(facts, report)
            check_imports(history, facts, report)
            check_adjustments(facts, report)
            check_payments(history, facts, report)


def check_positions(history: History, report: Report) -> None:
    """Nothing is unread (unless workers run), and no position is beyond its topic's end."""
    for (topic, partition), (first, count) in history.unread.items():
        if not history.allow_lag:
            ref = RecordRef(topic, partition, first)
            why, _ = history.stopped.get((topic, partition), (None, None))
            what = f"{count} records from here on are not processed"
            what += f": the input is stopped ({why})" if why else ""
            report.fault("outcomes", what, ref)
    for partition, ids in history.changelogs.items():
        known = {history.topics.changelog(table) for tables in ids.values() for table in tables}
        for topic in sorted(known - ids.keys()):
            what = "the changelog was deleted and created again: it lacks rows"
            report.fault("positions", what, RecordRef(topic, partition, 0))
    stopped = {at: why for at, (why, kind) in history.stopped.items() if kind == TOPIC_CHANGED}
    for (topic, partition), reason in sorted({**stopped, **history.changed}.items()):
        ref = RecordRef(topic, partition, history.position(topic, partition))
        report.fault("positions", reason, ref)
    for partition, positions in history.positions.items():
        for name, position in positions.items():
            report.count("positions")
            topic, number = input_of(name, partition)
            end = history.ends.get((topic, number))
            if end is not None and position > end:
                ref = RecordRef(topic, number, position)
                report.fault("positions", f"the position is beyond the last record, {end - 1}", ref)


def check_dead_letters(history: History, rules: Rules, report: Report) -> None:
    """Every bad record once and whole; of good ones only refusals and unclaimed webhooks."""
    report.count("dead-letters", history.counted["letters"])
    report.count("outcomes", len(history.bad))
    for ref, digest in history.bad.items():
        letters = history.letters.get(ref, [])
        why = history.bad_reasons[ref]
        if not letters:
            report.fault("dead-letters", f"is bad ({why}) and no dead letter", ref)
            unprocessed(history, report, ref, f"bad ({why}), and no dead letter", "")
        elif letters[0].digest != digest:
            report.fault("dead-letters", "its dead letter says something else", ref)
    for ref, letters in history.letters.items():
        if len(letters) > 1:
            report.fault(
                "dead-letters",
                f"is a dead letter {len(letters)} times",
                letters[1].ref,
            )
        if ref in history.foreign:
            report.fault("dead-letters", "of a record of another partition", letters[0].ref)
        if history.is_read(*ref) or history.allow_lag:
            continue
        if ref[2] >= history.ends.get(ref[:2], 0):
            report.fault("dead-letters", "of a record that is not there", letters[0].ref)
        else:
            what = f"the outcome of {ref}, which is beyond the position"
            report.fault("positions", what, letters[0].ref)
    for facts in history.complete():
        kinds: dict[str, set[str]] = defaultdict(set)
        for event in facts.events:
            kinds[event.cause].add(event.kind)
        for found in facts.every_input():
            for letter in history.letters.get(found.ref, ()):
                objection = _objection_to(letter, found, kinds[found.name], facts, rules)
                if objection is not None and not (letter.given_up and history.allow_lag):
                    report.fault("dead-letters", objection, letter.ref, merchant=facts.merchant)


def _objection_to(
    letter: DeadLetterFact, found: Input, kinds: set[str], facts: Facts, rules: Rules
) -> str | None:
    """A valid record is a dead letter as a rejected command or an unmatched webhook."""
    command = found.parsed.command
    if command in WEBHOOKS:
        if letter.reason.partition(":")[0] in OF_WEBHOOKS:
            did = kinds - _BY_TIME
            if did:
                return f"refused ({letter.reason}), and yet it did: {', '.join(sorted(did))}"
            return None if letter.digest == found.digest else other_than_parked(letter, found)
        clock = (facts.row or {}).get("updated_at")
        waited = clock is not None and micros(clock) >= letter.at + rules.parked_us
        full = found.parsed.refused_by or sum(map(len, facts.inputs.values())) > rules.parked_max
        if letter.given_up and (waited or full):
            return other_than_parked(letter, found)
    elif command != "time":
        if letter.digest != found.digest:
            return f"says something else than {found.name}"
        # All of it is done but that its shop is registered.
        did = set() if letter.reason.startswith(INVALID_SHOP) else kinds - _BY_TIME
        return (
            f"refused ({letter.reason}), and yet it did: {', '.join(sorted(did))}" if did else None
        )
    return f"of a good record ({command}): {letter.reason}"


def check_forwarded(history: History, report: Report) -> None:
    """A record on a wrong partition has one copy on the right one, and no other has any."""
    for ref, digest in history.foreign.items():
        report.count("forwarded")
        copies = history.copies.get(ref, [])
        if not copies:
            report.fault("forwarded", "was not forwarded", ref)
            unprocessed(history, report, ref, "on a wrong partition, and not forwarded", "")
        elif copies[0][1] != digest:
            report.fault("forwarded", "is the copy of a record with other bytes", copies[0][0])
    for ref, copies in history.copies.items():
        # Someone who sends a dead letter again may send its headers, too.
        first_is_dead = copies[0][0] in history.letters
        if len(copies) > 1 and not first_is_dead:
            what = f"{ref} was forwarded {len(copies)} times"
            report.fault("forwarded", what, copies[1][0])
        if ref not in history.foreign and history.is_read(*ref) and not history.only:
            what = f"a copy of {ref}, which need not be forwarded"
            report.fault("forwarded", what, copies[0][0])


def check_sequences(facts: Facts, report: Report) -> None:
    """1, 2, 3 without gap or double, rising in each topic, and as many as the row says."""
    report.count("sequences", len(facts.events))
    expected = 1
    last: dict[tuple[str, int], int] = {}
    for event in facts.events:
        if event.sequence != expected:
            what = f"sequence {event.sequence} where {expected} is next"
            fault_of(report, "sequences", what, event)
        expected = event.sequence + 1
        before = last.get(event.ref[:2], -1)
        if event.ref[2] < before:
            what = f"sequence {event.sequence} stands before lower ones"
            fault_of(report, "sequences", what, event)
        last[event.ref[:2]] = event.ref[2]
    if facts.events and expected - 1 != facts.sequence:
        what = f"the last is {expected - 1}, by the row it is {facts.sequence}"
        fault_of(report, "sequences", what, facts.events[-1])
    elif not facts.events and facts.sequence:
        what = f"no events, by the row there are {facts.sequence}"
        report.fault("sequences", what, facts.row_ref, merchant=facts.merchant)


_SAME = {
    "purchase.failed": "no payment",
    "purchase.expired": "no payment",
    "credits.imported": "credits.purchased",
    "trial.imported": "trial.started",
}


# What happens by time alone, whatever is refused.
_BY_TIME = {"trial.ending", "trial.expired", "purchase.expired"}
MORE_THAN_ONCE = (
    "purchase.refunded",
    "purchase.refund_failed",
    "purchase.disputed",
    "purchase.dispute_closed",
    "merchant.forgotten",
    "merchant.uninstalled",
)


def check_once(facts: Facts, report: Report) -> None:
    """Once: a trial starts and ends, a purchase is paid, fails or expires, an adjustment."""
    seen: set[tuple[str, str]] = set()
    for event in facts.events:
        report.count("once")
        if event.kind in MORE_THAN_ONCE:
            continue
        kind, subject = _SAME.get(event.kind, event.kind), event.subject
        if kind in ("trial.ending", "trial.expired"):
            # Once per end: an extension makes another one.
            subject = str(event.content[4])
        if (kind, subject) in seen:
            fault_of(report, "once", f"{event.kind} again for {event.subject}", event)
        seen.add((kind, subject))


def check_causes(history: History, facts: Facts, report: Report) -> None:
    """A cause is an input record of the merchant, or an origin that the journal has."""
    names = {found.name for found in facts.every_input()}
    origins = {(entry.origin, entry.correlation) for entry in facts.journal}
    for event in facts.events:
        report.count("causes")
        ref = RecordRef.parse_or_none(event.cause)
        if ref is None:
            if event.origin_key not in origins:
                what = f"{event.kind} came from {event.cause!r}, and no entry of the journal has it"
                fault_of(report, "journal", what, event)
        elif event.cause not in names:
            if ref[2] < history.ends.get(ref[:2], 0) and not history.is_read(*ref):
                what = f"{event.kind} is the outcome of {event.cause}, beyond the position"
                fault_of(report, "positions", what, event)
            else:
                what = f"its cause {event.cause} is not a record of the merchant"
                fault_of(report, "causes", what, event)


def check_journal(facts: Facts, report: Report) -> None:
    """No entry twice."""
    seen: set[object] = set()
    for entry in facts.journal:
        report.count("journal")
        identity = (entry.parsed, entry.at)
        if identity in seen:
            what = f"{entry.parsed.command} is in the journal twice"
            report.fault("journal", what, entry.ref, merchant=facts.merchant)
        seen.add(identity)
