"""The recorded outcome of a merchant against the present one."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .merchant_run import GIVEN_UP, Command, Effect, code_of
from .records import Difference, Recorded, RecordedEvent

Key = tuple[str, str]
# They count what the other differences are about.
COUNTERS = ("sequence", "version")
# Of purchases and their events; releases up to 0.5.1 did not write them.
SAID_SINCE_3 = ("currency", "pack", "test")


class Result:
    """Results: events, refusals by their record, given up webhooks, rows."""

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []
        self.refused: dict[str, str] = {}
        self.given_up: set[str] = set()
        self.tables: Mapping[Key, dict[str, Any]] = {}

    def take(self, command: Command, effect: Effect) -> None:
        """What the next command does."""
        self.events += effect.events
        if effect.refused is not None:
            self.refused[command.name] = effect.refused
        self.given_up.update(effect.given_up)
        self.refused.update(effect.refused_late)


def differences(recorded: Recorded, result: Result) -> list[Difference]:
    """Every difference. Counters count only where nothing else explains them."""
    found = [*_events(recorded, result), *_letters(recorded, result)]
    counted = not any(d.kind in ("event missing", "event extra") for d in found)
    found += _rows(recorded, result, counted)
    return found


def _events(recorded: Recorded, result: Result) -> Iterator[Difference]:
    before: dict[str, RecordedEvent] = {}
    merchant_id = recorded.merchant_id
    replayed = {event.event_id: event for event in result.events}
    for event in recorded.events:
        again = replayed.get(event.event_id)
        if again is None or event.event_id in before:
            why = "recorded more than once" if event.event_id in before else None
            yield _event(merchant_id, "event missing", event, recorded=event.data, field=why)
        before[event.event_id] = event
    for event in result.events:
        if event.event_id not in before:
            yield _event(merchant_id, "event extra", event, replayed=event.data)
    common = [event.event_id for event in result.events if event.event_id in before]
    order = {event_id: number for number, event_id in enumerate(common)}
    last = -1
    for event_id, event in before.items():
        if event_id not in order:
            continue
        again = replayed[event_id]
        if order[event_id] < last:
            numbers = {"recorded": event.sequence, "replayed": again.sequence}
            yield _event(merchant_id, "event differs", event, field="order", **numbers)
        last = max(last, order[event_id])
        yield from _fields_of_event(merchant_id, event, again, len(before) == len(replayed))


def _fields_of_event(
    merchant_id: str, event: RecordedEvent, again: RecordedEvent, counted: bool
) -> Iterator[Difference]:
    for name in ("type", "at", "correlation_id", "cause", "sequence"):
        was, now = getattr(event, name), getattr(again, name)
        if was != now and (counted or name not in COUNTERS):
            yield _event(
                merchant_id, "event differs", event, field=name, recorded=was, replayed=now
            )
    for name, was, now in _fields(event.data, again.data):
        yield _event(merchant_id, "event differs", event, field=name, recorded=was, replayed=now)


def _event(merchant_id: str, kind: str, event: RecordedEvent, **more: Any) -> Difference:
    return Difference(
        merchant_id=merchant_id,
        kind=kind,
        type=event.type,
        subject=event.event_id,
        cause=event.cause,
        at=event.at,
        **more,
    )


def _letters(recorded: Recorded, result: Result) -> Iterator[Difference]:
    refs = [found.ref for found in recorded.inputs]
    for ref in refs:
        reasons = [letter.reason for letter in recorded.letters.get(ref, ())]
        refused = [reason for reason in reasons if not reason.startswith(GIVEN_UP)]
        given_up = [reason for reason in reasons if reason.startswith(GIVEN_UP)]
        again = result.refused.get(ref)
        was, now = (refused[0] if refused else None), again
        same = (was and code_of(was)) == (now and code_of(now))
        if not same:
            yield _letter(recorded.merchant_id, ref, was, now)
        if bool(given_up) != (ref in result.given_up):
            said = f"{GIVEN_UP}in time"
            now = said if ref in result.given_up else None
            yield _letter(recorded.merchant_id, ref, given_up[0] if given_up else None, now)


def _letter(merchant_id: str, ref: str, was: str | None, now: str | None) -> Difference:
    kind = "dead letter extra" if was is None else "dead letter missing"
    if was is not None and now is not None:
        kind = "dead letter differs"
    return Difference(
        merchant_id=merchant_id,
        kind=kind,
        type=ref.rpartition("[")[0],
        subject=ref,
        recorded=was,
        replayed=now,
        cause=ref,
    )


def _rows(recorded: Recorded, result: Result, counted: bool) -> Iterator[Difference]:
    rows: dict[Key, dict[str, Any] | None] = {}
    for row in recorded.rows:
        rows[row.table, row.key] = row.value
    for key in {**rows, **result.tables}:
        was, now = rows.get(key), result.tables.get(key)
        if was is None and now is None:
            continue
        if now is None:
            yield _row(recorded.merchant_id, "row missing", key, recorded=was)
        elif was is None:
            yield _row(recorded.merchant_id, "row extra", key, replayed=now)
        else:
            for name, old, new in _fields(was, now):
                if counted or name not in COUNTERS:
                    yield _row(
                        recorded.merchant_id,
                        "row differs",
                        key,
                        field=name,
                        recorded=old,
                        replayed=new,
                    )


def _row(merchant_id: str, kind: str, key: Key, **more: Any) -> Difference:
    table, subject = key
    return Difference(merchant_id=merchant_id, kind=kind, type=table, subject=subject, **more)


def _fields(was: dict[str, Any], now: dict[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    for name in {**was, **now}:
        if was.get(name) != now.get(name) and (name in was or name not in SAID_SINCE_3):
            yield name, was.get(name), now.get(name)
