"""Is the order whole, and do a merchant's commands in it do all that was recorded?

Each must publish what names it as its cause, refuse what its dead letter says, and lead to the
rows of the changelog.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from billing_stream.audit.verify.catalogue_versions import Version
from billing_stream.audit.verify.changelog_rows import differences
from billing_stream.audit.verify.facts import Entry, Event, Facts, History, Input
from billing_stream.audit.verify.model_state import WEBHOOKS, Rules, State
from billing_stream.audit.verify.verify_model import Step
from billing_stream.audit.verify.verify_report import Report
from billing_stream.audit.written_order import Place, unproved
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.topics import JOURNAL

Command = Input | Entry
# What versions of the rules decide otherwise.
_BY_VERSION = ("update", "create", "import")


@dataclass(slots=True)
class Verdict:
    """The outcome. `order` are the commands with their events, as far as they are right.

    `fault` is what the next one does otherwise, `table` what the tables say otherwise. `unproved`
    is of how many records the order is not written; then neither is a fault.
    """

    order: list[tuple[Command, list[Event]]] = field(default_factory=list)
    fault: str | None = None
    ref: RecordRef | None = None
    event_id: str | None = None
    table: str | None = None
    unproved: int = 0
    # Claims to the trials of shops, each with why.
    claims: list[tuple[str, str]] = field(default_factory=list)


def check_order(history: History, report: Report) -> None:
    """Each input record is in one order, in its turn, and the orders lead to the positions."""
    journal = history.topics.name(JOURNAL)
    for partition, order in history.orders.items():
        if partition in history.incomplete:
            continue
        order.finish(history.positions.get(partition, {}), more=history.allow_lag)
        for what, offset in order.faults:
            report.fault("order", what, RecordRef(journal, partition, offset))


def replay(history: History, rules: Rules, facts: Facts) -> Verdict:
    """Carry out a merchant's commands in their order."""
    found = _placed(history, facts)
    verdict = Verdict(unproved=unproved(place for place, _ in found))
    commands = [command for _, command in found]
    # Releases up to 0.5.1 did not announce that a trial is about to end.
    knows_from = history.reminded_from.get(facts.partition, sys.maxsize)
    rules = replace(rules, reminded_from=knows_from)
    state = _carry_out(history, rules, facts, commands, verdict)
    if verdict.fault is not None:
        verdict.table = None
    elif verdict.table is None:
        rows = differences(state, facts, allow_lag=history.allow_lag)
        verdict.table = "; ".join(list(rows)[:3]) or None
    return verdict


def _placed(history: History, facts: Facts) -> list[tuple[Place, Command]]:
    order = history.order(facts.partition)
    found: list[tuple[Place, Command]] = [(entry.place, entry) for entry in facts.journal]
    for topic, queue in facts.inputs.items():
        places = order.places(topic, ((one.offset, one.at) for one in queue))
        found += zip(places, queue, strict=True)
    found = [(place, _with_rules(command, order.rules_of(place))) for place, command in found]
    versions = history.versions(facts.partition)
    if versions:
        found = [(place, _with_versions(command, place, versions)) for place, command in found]
    return sorted(found, key=lambda one: one[0])


def _with_rules(command: Command, rules: int) -> Command:
    # Entries of the journal say of nothing by which rules it was decided.
    if not isinstance(command, Input) or command.parsed.command not in _BY_VERSION:
        return command
    return command._replace(parsed=command.parsed._replace(rules=rules))


def _with_versions(
    command: Command, place: Place, versions: Sequence[tuple[Place, Version]]
) -> Command:
    if command.parsed.command != "reserve":
        return command
    known = tuple(version for known_from, version in versions if known_from < place)
    return command._replace(parsed=command.parsed._replace(versions=known))


def _carry_out(
    history: History, rules: Rules, facts: Facts, commands: Sequence[Command], verdict: Verdict
) -> State:
    state, events, given_up = State(facts.merchant), facts.events, 0
    caused = Counter(event.cause for event in events)
    # Records of webhooks with the dead letter of one that nobody claimed in time.
    letters = {one.name for one in facts.every_input() if _is_given_up(history, one)}
    last_input = max((n for n, one in enumerate(commands) if isinstance(one, Input)), default=-1)
    refused = {one.ref for one in facts.every_input() if one.name in letters}
    done = 0
    for number, command in enumerate(commands):
        if history.allow_lag and number > last_input and state.version == facts.version:
            # The entries that are left came after the rows that were read.
            break
        step = Step(rules, state, command.parsed, command.at)
        recorded = events[done : done + len(step.events)]
        objections = _objections(history, command, step, recorded, letters)
        if isinstance(command, Input):
            objections = _of_input(history, command, step, caused[command.name], objections)
        verdict.fault = next(objections, None)
        if verdict.fault is not None:
            verdict.ref = command.ref
            verdict.event_id = recorded[0].id if recorded else None
            return state
        if verdict.table is None and step.changed:
            verdict.table = _other_row(facts, step.state)
        verdict.order.append((command, recorded))
        verdict.claims += step.claims
        state = step.state
        done += len(step.events)
        given_up += len(step.given_up) + (step.refusal is not None and command.ref in refused)
    if done < len(events):
        event = events[done]
        verdict.ref, verdict.event_id = event.ref, event.id
        verdict.fault = f"no command is left for {event.kind} (sequence {event.sequence})"
    elif given_up < len(letters) and not history.allow_lag:
        verdict.fault = "a dead letter says that no purchase claimed a webhook in time"
    return state


def _is_given_up(history: History, found: Input) -> bool:
    webhook = found.parsed.command in WEBHOOKS
    return webhook and any(letter.given_up for letter in history.letters.get(found.ref, ()))


def _objections(
    history: History,
    command: Command,
    step: Step,
    recorded: Sequence[Event],
    letters: set[str],
) -> Iterator[str]:
    """How this step differs from the record."""
    entry = command if isinstance(command, Entry) else None
    cause = command.origin if isinstance(command, Entry) else command.name
    where = f"{command.ref} ({command.parsed.command})"
    published = [event.content for event in recorded]
    if published != step.events and Counter(published) != Counter(step.events):
        yield f"{where} publishes {step.events}, recorded is {published}"
    for event in recorded:
        if event.cause != cause:
            yield f"{where} publishes {event.kind}, which names another cause, {event.cause}"
        if event.at != step.now:
            yield f"{where} publishes {event.kind} at another time than is recorded"
        if entry is not None and event.correlation != entry.correlation:
            yield f"{where} and its events have other correlation ids"
    for waiting in step.given_up:
        if waiting.source not in letters and RecordRef.parse_or_none(waiting.source):
            yield f"{where} gives {waiting.source} up, which is not a dead letter"
    if entry is not None and not step.changed and not step.given_up:
        yield f"{where} changes nothing"


def _of_input(
    history: History, command: Input, step: Step, caused: int, others: Iterator[str]
) -> Iterator[str]:
    yield from others
    where = f"{command.name} ({command.parsed.command})"
    if caused != len(step.events):
        yield f"{where} publishes {len(step.events)} events, recorded are {caused}"
    if command.parsed.command == "time":
        return
    letters = history.letters.get(command.ref, ())
    codes = [letter.reason.partition(":")[0] for letter in letters]
    if command.parsed.command in WEBHOOKS and step.refusal is None:
        # Another one may be of what was parked of it, and is counted.
        return
    if codes[:1] != ([] if step.refusal is None else [step.refusal]):
        yield f"{where} is refused with {step.refusal}, its dead letters say {codes}"


def _other_row(facts: Facts, state: State) -> str | None:
    """What the row of this version says otherwise, where the changelog still has it."""
    passed = facts.passed.get(state.version)
    reached = (state.sequence, state.clock, state.total, len(state.parked))
    if passed in (None, reached):
        return None
    return f"version {state.version} is {reached}, in its row {passed}"
