"""Makes the explanation of a merchant out of its records and its replay."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Struct, field

from billing_stream.audit.replay.core.merchant_run import read_entry
from billing_stream.audit.replay.core.records import (
    Difference,
    Input,
    Outcome,
    Recorded,
    RecordedEvent,
    Step,
)
from billing_stream.audit.replay.credits import balance_of, credits_of
from billing_stream.records import forwarding
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.topics import BILLING_RECORDS, COMMANDS


class Origin(Struct, frozen=True, kw_only=True):
    """The record that caused something.

    `topic`, `partition` and `offset` are its reference: of an input, or of the journal with the
    `origin` (http, timer, cli). `sent_as` is the reference of the
    record as it was first sent, when that was a wrong partition; `copy_of` the dead letter that
    was redriven.
    `waited` are the references of webhooks that had come earlier and took effect with it.
    """

    topic: str
    partition: int
    offset: int
    origin: str | None = None
    sent_as: str | None = None
    copy_of: str | None = None
    waited: tuple[str, ...] = ()


class Credit(Struct, frozen=True, kw_only=True):
    """A change of the balance; `credits` is signed, `source` None when nothing can be found."""

    event_id: str
    type: str
    at: str
    sequence: int
    credits: int
    balance_after: int
    purchase_id: str | None
    amount: str | None
    correlation_id: str
    # The name in `--json`.
    event_ref: str = field(name="event_place")
    source: Origin | None


class Moment(Struct, frozen=True, kw_only=True):
    """What one command did, at that time of the merchant; `changed` whether it did anything."""

    at: str
    record: str
    origin: str | None
    command: dict[str, Any]
    changed: bool
    refused: str | None
    events: list[RecordedEvent]
    balance_after: int


class StateThen(Struct, frozen=True, kw_only=True):
    """The merchant at the time asked for; `merchant` is its row, None when it did not exist."""

    balance: int
    trial_available: bool
    trial_active: bool
    trial_started_at: str | None
    trial_ends_at: str | None
    purchases: list[dict[str, Any]]
    merchant: dict[str, Any] | None


class Explanation(Struct, frozen=True, kw_only=True):
    """All of it. `faults` are why it does not add up; empty when it does."""

    merchant_id: str
    partition: int
    at: datetime
    state: StateThen
    credits: list[Credit]
    timeline: list[Moment]
    balance_now: int
    credits_now: int
    faults: list[str]
    notes: list[str]


def explain(recorded: Recorded, outcome: Outcome, partition: int, at: datetime) -> Explanation:
    """The merchant at `at`, and its whole account until then."""
    until = [event for event in recorded.events if datetime.fromisoformat(event.at) <= at]
    steps = [step for step in outcome.steps if datetime.fromisoformat(step.at) <= at]
    causes = Causes(recorded, outcome.steps)
    credits = list(_credits(until, causes))
    total = credits[-1].balance_after if credits else 0
    now = balance_of(_last_row(recorded))
    total_now = sum(map(credits_of, recorded.events))
    faults = list(_faults(recorded, total_now, now))
    notes = list(_notes(recorded, outcome))
    state = _state(steps, total, at)
    if not outcome.differences and balance_of(state.merchant) != total:
        faults.append(
            f"the credits until then add up to {total}, and the state says "
            f"{balance_of(state.merchant)}"
        )
    return Explanation(
        merchant_id=recorded.merchant_id,
        partition=partition,
        at=at,
        state=state,
        credits=credits,
        timeline=list(_timeline(steps, until, causes)),
        balance_now=now,
        credits_now=total_now,
        faults=faults,
        notes=notes,
    )


class Causes:
    """Which record caused each event: as the event says, and of what came from no topic, which
    entry of the journal.
    """

    def __init__(self, recorded: Recorded, steps: Iterable[Step]) -> None:
        self._recorded = recorded
        self._inputs = {one.ref: one for one in recorded.inputs}
        self._steps = {step.name: step for step in steps}
        self._told_by = {event.event_id: step for step in steps for event in step.events}

    def ref_of(self, event: RecordedEvent) -> str | None:
        """The reference of the record, or None when it is not there."""
        if event.cause in self._inputs:
            return event.cause
        step = self._told_by.get(event.event_id)
        if step is not None and step.origin == event.cause:
            return step.name
        return _entry_of(event, self._recorded)

    def origin_of(self, event: RecordedEvent) -> Origin | None:
        """The record with its facts, or None when it is not there."""
        ref = self.ref_of(event)
        if ref is None:
            return None
        topic, partition, offset = RecordRef.parse(ref)
        found, step = self._inputs.get(ref), self._steps.get(ref)
        # In other topics these headers are any producer's, and say nothing.
        copy = found if topic.endswith(COMMANDS) else None
        return Origin(
            topic=topic,
            partition=partition,
            offset=offset,
            origin=event.cause if found is None else None,
            sent_as=_header(copy, forwarding.FORWARDED_FROM),
            copy_of=_header(copy, forwarding.REDRIVEN_FROM),
            waited=tuple(step.claimed) if step is not None else (),
        )


def _credits(events: Iterable[RecordedEvent], causes: Causes) -> Iterable[Credit]:
    balance = 0
    for event in events:
        credits = credits_of(event)
        if not credits:
            continue
        balance += credits
        yield Credit(
            event_id=event.event_id,
            type=event.type,
            at=event.at,
            sequence=event.sequence,
            credits=credits,
            balance_after=balance,
            purchase_id=event.data.get("purchase_id"),
            amount=event.data.get("amount"),
            correlation_id=event.correlation_id,
            event_ref=event.ref,
            source=causes.origin_of(event),
        )


def _entry_of(event: RecordedEvent, recorded: Recorded) -> str | None:
    """The last entry of this origin and correlation that was decided by then."""
    found = None
    at = datetime.fromisoformat(event.at)
    for entry in recorded.entries:
        said = read_entry(entry.value)
        same = (said.origin, said.correlation_id) == (event.cause, event.correlation_id)
        if same and said.now <= at:
            found = entry.ref
    return found


def _header(found: Input | None, name: str) -> str | None:
    for key, value in found.headers if found is not None else ():
        if key == name and value is not None:
            return value.decode("utf-8", "replace")
    return None


def _last_row(recorded: Recorded) -> dict[str, Any] | None:
    rows = [row.value for row in recorded.rows if row.table == BILLING_RECORDS]
    return rows[-1] if rows else None


def _faults(recorded: Recorded, total: int, now: int) -> Iterable[str]:
    if total != now:
        yield f"all credits add up to {total}, and the balance is {now}"
    sequences = [event.sequence for event in recorded.events]
    if sequences != list(range(1, len(sequences) + 1)):
        yield f"events are missing or doubled: their sequence is {sequences}"
    refs = {one.ref for one in recorded.inputs}
    origins = {read_entry(entry.value).origin for entry in recorded.entries}
    for event in recorded.events:
        if event.cause not in refs and event.cause not in origins:
            yield f"event {event.event_id} names a cause that is not recorded: {event.cause}"


def _notes(recorded: Recorded, outcome: Outcome) -> Iterable[str]:
    if recorded.unproved:
        yield (
            f"{recorded.unproved} records have no written order: a release up to 0.5.1 took them. "
            "They are in the order of their times, which is not proved"
        )
    differences: list[Difference] = outcome.differences
    if differences:
        yield (
            f"the present rules and settings would not lead to this history: {len(differences)} "
            "differences. The credits are as recorded; the rest of the state is by the "
            f"present rules. See `billing-stream replay --merchant {recorded.merchant_id}`"
        )


def _state(steps: Iterable[Step], balance: int, at: datetime) -> StateThen:
    merchant: dict[str, Any] | None = None
    purchases: dict[str, dict[str, Any]] = {}
    for step in steps:
        merchant = step.merchant or merchant
        purchases.update({purchase["id"]: purchase for purchase in step.purchases})
    row = merchant or {}
    ends = row.get("trial_ends_at")
    return StateThen(
        balance=balance,
        trial_available=row.get("trial_available", True),
        trial_active=ends is not None and datetime.fromisoformat(ends) > at,
        trial_started_at=row.get("trial_started_at"),
        trial_ends_at=ends,
        purchases=sorted(purchases.values(), key=lambda one: (one["created_at"], one["id"])),
        merchant=merchant,
    )


def _timeline(
    steps: Iterable[Step], events: Iterable[RecordedEvent], causes: Causes
) -> Iterable[Moment]:
    """Commands in the order in which they were decided, with the events that are recorded."""
    by_step: dict[str | None, list[RecordedEvent]] = defaultdict(list)
    for event in events:
        by_step[causes.ref_of(event)].append(event)
    balance = 0
    for step in steps:
        balance += sum(map(credits_of, by_step[step.name]))
        yield Moment(
            at=step.at,
            record=step.name,
            origin=step.origin or None,
            command=step.command,
            changed=step.merchant is not None,
            refused=step.refused,
            events=by_step[step.name],
            balance_after=balance,
        )
