"""Redriven dead letters: of one, whatever its copies, one is processed.

A copy names its letter in a header; the copy of a copy that was bad or refused names the first
letter. A copy beyond the one that was carried out is a dead letter and does nothing.
"""

from collections import defaultdict

from billing_stream.audit.verify.facts import Action, DeadLetterFact, Facts, History, Input
from billing_stream.audit.verify.log_records import Record
from billing_stream.audit.verify.model_state import PAID
from billing_stream.audit.verify.verify_inputs import REDRIVEN_FROM, REDRIVEN_FROM_CHARS_MAX
from billing_stream.audit.verify.verify_report import Report
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef

REPEATED = "ALREADY_REDRIVEN"
NEEDED = (names.DEAD_LETTERS, names.DEAD_LETTER_ACTIONS, names.COMMANDS)


def letter_of(record: Record) -> str:
    """The dead letter that a record is a copy of, or empty."""
    for name, value in record.headers:
        if name == REDRIVEN_FROM and value is not None:
            text = value.decode("utf-8", "replace")
            return text if len(text) <= REDRIVEN_FROM_CHARS_MAX else ""
    return ""


def leave_out_repeated(history: History) -> None:
    """Take copies out after the one that was carried out: they do not count as commands."""
    copies: dict[tuple[int, str], list[tuple[Input, Facts]]] = defaultdict(list)
    for facts in history.merchants.values():
        for found in facts.every_input():
            if found.redriven:
                copies[found.partition, found.redriven].append((found, facts))
    for group in copies.values():
        done = False
        for found, facts in sorted(group, key=lambda one: one[0].offset):
            if done:
                facts.inputs[found.topic].remove(found)
                history.repeated[found.ref] = found.digest
            else:
                letters = history.letters.get(found.ref, ())
                done = all(letter.given_up for letter in letters)


def other_than_parked(letter: DeadLetterFact, found: Input) -> str | None:
    """Why the dead letter of an unmatched webhook cannot be redriven in its reference."""
    if letter.parsed is None:
        return None
    wanted = found.parsed
    status = wanted.text.strip().lower()
    untold = letter.parsed.amount is None and letter.parsed.currency is None
    if wanted.command == "update" and (status not in PAID or untold):
        # Of what was not paid no sum is kept; before version 2 of the rules, of nothing.
        wanted = wanted._replace(amount=None, currency=None)
    parked, said = (
        (
            (s.command, s.merchant, s.charge, s.purchase, s.amount, s.text.strip().lower()),
            (s.currency, s.charge_amount, s.own),
        )
        for s in (letter.parsed, wanted)
    )
    return None if parked == said else f"says {parked}, and {found.name} had {said}"


def check_redriven(history: History, report: Report) -> None:
    """Copies beyond the first are dead letters; the ledger and the copies agree."""
    for ref, digest in history.repeated.items():
        report.count("redriven")
        letters = history.letters.get(ref, [])
        said_so = letters and letters[0].reason.startswith(REPEATED)
        if not said_so or letters[0].digest != digest:
            what = "a copy of what was carried out before, and no dead letter says so"
            report.fault("redriven", what, ref)
    cut = {history.topics.name(name) for name in NEEDED} & history.cut
    if cut or history.allow_lag or history.only:
        return
    dealt_with: set[str] = set()
    for action in history.actions:
        report.count("redriven")
        objection = _objection(history, action)
        if objection is None and action.letter in dealt_with and not action.again:
            objection = f"{action.letter} was dealt with before, and was not to be redriven"
        if objection is not None:
            report.fault("redriven", objection, action.ref)
        dealt_with.add(action.letter)
    by_hand = history.redriven.keys() - {action.target for action in history.actions}
    if by_hand:
        first = min(by_hand)
        report.notes.append(
            f"{len(by_hand)} copies of dead letters were sent by other means than "
            f"`billing-stream dlq`, and nothing says by whom, e.g. {first}"
        )


def _objection(history: History, action: Action) -> str | None:
    line = history.lines.get(action.letter)
    if line is None:
        return f"of {action.letter}, which is not a dead letter"
    if action.action == "redriven" and history.redriven.get(action.target or "") != line:
        return f"{action.letter} was redriven as {action.target}, which is not a copy of it"
    return None


def root_of(
    record: Record, source: RecordRef, headers: list[tuple[str, bytes | None]]
) -> tuple[str, str]:
    """The reference of a dead letter, and the first letter of its line."""
    ref = str(RecordRef.of(record))
    # In other topics the header is any producer's, and says nothing.
    for name, value in headers if source.topic.endswith(names.COMMANDS) else ():
        if name == REDRIVEN_FROM and value:
            text = value.decode("utf-8", "replace")
            return ref, text if len(text) <= REDRIVEN_FROM_CHARS_MAX else ref
    return ref, ref
