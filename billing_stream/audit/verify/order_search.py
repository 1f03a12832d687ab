"""Is there a legal order of a merchant's commands in which all that was recorded happened?

Known of the order: that within each input topic; where the journal's entries stand among
them (their `positions`); and, by `sequence` and `cause`, that of all that told something.
Unknown: where a record that told nothing stands between those of other topics. So this is a
search, from the likeliest order (by time) on: each step must do exactly what is recorded of
it. It fails only when no order does, and gives up, without a verdict, when there are too many.

The rows that the changelog has, older ones too as far as it has them, say which orders need
not be tried. When no order passes through them, all are tried: then either no order is legal,
or the rows are wrong.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from billing_stream.audit.verify.changelog_rows import differences
from billing_stream.audit.verify.facts import Entry, Event, Facts, History, Input
from billing_stream.audit.verify.log_records import micros, moment_text
from billing_stream.audit.verify.model_state import Rules, State
from billing_stream.audit.verify.verify_model import Step
from billing_stream.records.record_ref import RecordRef

STEPS_PER_COMMAND = 30
STEPS_AT_LEAST = 5_000

Command = Input | Entry
Indices = tuple[int, ...]


@dataclass(slots=True)
class Verdict:
    """What came of the search. `order` is that of the commands, as far as it is legal.

    `fault` is why there is no legal order, `table` what the tables say otherwise than every
    legal order. Neither, and `undecided`: too many orders to try them all.
    """

    order: list[tuple[Command, list[Event]]] = field(default_factory=list)
    fault: str | None = None
    ref: RecordRef | None = None
    event_id: str | None = None
    table: str | None = None
    undecided: bool = False
    steps: int = 0


@dataclass(slots=True)
class _Node:
    """A point of the search: so many commands of each queue, entries and events are done."""

    indices: Indices
    entry: int
    event: int
    state: State
    choices: Iterator[Command]
    command: Command | None = None
    # What was parked and became a dead letter so far.
    given_up: int = 0


def replay(history: History, rules: Rules, facts: Facts) -> Verdict:
    """Search for a legal order of a merchant's commands."""
    guided = Replay(history, rules, facts, guided=True).run()
    if guided.fault is None and guided.table is None and not guided.undecided:
        return guided
    verdict = Replay(history, rules, facts, guided=False).run()
    if verdict.undecided and not guided.undecided:
        # Every order that passes through the rows was tried.
        guided.table = guided.table or f"no legal order passes through its rows: {guided.fault}"
        guided.fault = None
        return guided
    return verdict


class Replay:
    """The search for one merchant. `guided`: only orders that pass through its rows."""

    def __init__(self, history: History, rules: Rules, facts: Facts, *, guided: bool) -> None:
        self._guided = guided
        self._history = history
        self._rules = rules
        self._facts = facts
        self._queues = [queue for queue in facts.inputs.values() if queue]
        self._segments = [self._segments_of(queue) for queue in self._queues]
        self._caused = Counter(event.cause for event in facts.events)
        self._dead: set[tuple[object, ...]] = set()
        count = len(facts.journal) + sum(map(len, self._queues))
        self._steps_max = STEPS_AT_LEAST + STEPS_PER_COMMAND * count
        # Records of webhooks with the dead letter of one that nobody claimed in time.
        self._given_up = {
            found.name
            for found in facts.every_input()
            if found.parsed.command in ("update", "refund")
            and any(letter.given_up for letter in history.letters.get(found.ref, ()))
        }
        # An import makes a record as old as it was there, whatever made it here.
        self._imported = any(parsed.old is not None for parsed, _ in facts.parsed())
        self._furthest = -1
        self._why: list[str] = []
        self.verdict = Verdict()

    def run(self) -> Verdict:
        """Search."""
        verdict = self.verdict
        stack = [self._node((0,) * len(self._queues), 0, 0, State(self._facts.merchant), 0)]
        while stack:
            node = stack[-1]
            if self._is_goal(node):
                verdict.order = self._path(stack)
                verdict.fault = verdict.table = None
                return verdict
            following = self._next(node)
            if following is None:
                if node.event + sum(node.indices) + node.entry >= self._furthest:
                    self._dead_end(stack)
                self._dead.add(self._identity(node))
                stack.pop()
            else:
                stack.append(following)
            if verdict.steps > self._steps_max:
                verdict.undecided = True
                verdict.fault = verdict.table = None
                return verdict
        if verdict.table is not None:
            verdict.fault = None
        return verdict

    def _segments_of(self, queue: list[Input]) -> list[int]:
        """For each record, how many entries of the journal were decided before it."""
        topic = queue[0].topic
        reached = [entry.positions.get(topic, 0) for entry in self._facts.journal]
        return [bisect_right(reached, found.offset) for found in queue]

    def _node(self, indices: Indices, entry: int, event: int, state: State, given_up: int) -> _Node:
        choices = iter(self._choices(indices, entry))
        return _Node(indices, entry, event, state, choices, given_up=given_up)

    def _choices(self, indices: Indices, entry: int) -> list[Command]:
        """What may come next, the likeliest first."""
        heads: list[Command] = [
            queue[index]
            for queue, segments, index in zip(self._queues, self._segments, indices, strict=True)
            if index < len(queue) and segments[index] <= entry
        ]
        if heads:
            heads.sort(key=lambda command: command.at)
        elif entry < len(self._facts.journal):
            heads.append(self._facts.journal[entry])
        return heads

    def _next(self, node: _Node) -> _Node | None:
        """The node after the next choice that does what is recorded of it."""
        for command in node.choices:
            if isinstance(command, Input) and self._caused[command.name]:
                events = self._facts.events
                # It told something, and something else was told first: not yet.
                if node.event >= len(events) or events[node.event].cause != command.name:
                    continue
            self.verdict.steps += 1
            step = Step(self._rules, node.state, command.parsed, command.at)
            why = self._objection(node, command, step)
            if why is None and self._guided:
                why = self._off_the_rows(command, step)
            if why is not None:
                self._note(node, why)
                continue
            given_up = node.given_up + len(step.given_up)
            published = node.event + len(step.events)
            if isinstance(command, Entry):
                following = self._node(
                    node.indices, node.entry + 1, published, step.state, given_up
                )
            else:
                indices = tuple(
                    index + (index < len(queue) and queue[index] is command)
                    for queue, index in zip(self._queues, node.indices, strict=True)
                )
                following = self._node(indices, node.entry, published, step.state, given_up)
            if self._dead and self._identity(following) in self._dead:
                continue
            node.command = command
            return following
        return None

    def _objection(self, node: _Node, command: Command, step: Step) -> str | None:
        """Why this step is not what is recorded, or None."""
        recorded = self._facts.events[node.event : node.event + len(step.events)]
        published = [event.content for event in recorded]
        name = command.origin if isinstance(command, Entry) else command.name
        where = str(command.ref) if isinstance(command, Entry) else name
        if published != step.events and Counter(published) != Counter(step.events):
            return (
                f"{where} ({command.parsed.command}) tells {step.events}, recorded is {published}"
            )
        for event in recorded:
            if event.cause != name:
                return f"{where} tells {event.kind}, which names another cause, {event.cause}"
            if event.at != step.now:
                return f"{where} tells {event.kind} at another time than is recorded"
        for waiting in step.given_up:
            if waiting.source not in self._given_up and RecordRef.parse_or_none(waiting.source):
                return f"{where} gives {waiting.source} up, which is no dead letter"
        if isinstance(command, Entry):
            if any(event.correlation != command.correlation for event in recorded):
                return f"{where} and its events have other correlation ids"
            if not step.changed and not step.given_up:
                return f"{where} ({command.parsed.command}) changes nothing"
            return None
        if self._caused[command.name] != len(step.events):
            return (
                f"{where} ({command.parsed.command}) tells {len(step.events)} events, "
                f"recorded are {self._caused[command.name]}"
            )
        return self._other_refusal(command, step)

    def _off_the_rows(self, command: Command, step: Step) -> str | None:
        """Which row of the changelog this step cannot lead to, or None."""
        state, facts = step.state, self._facts
        if not step.changed or facts.row is None:
            return None
        passed = facts.passed.get(state.version)
        if passed is not None:
            reached = (state.sequence, state.clock, state.total, len(state.parked))
            if passed != reached:
                return f"version {state.version} is {reached}, in its row {passed}"
        elif state.version > facts.version:
            return f"the last version is {facts.version}"
        if command.parsed.command == "create" and not self._imported:
            return _other_time("created_at", facts.row, state.created)
        if command.parsed.command == "reserve":
            for purchase in list(state.purchases)[-1:]:
                row = facts.purchases.get(purchase)
                if row is not None:
                    return _other_time("created_at", row, state.purchases[purchase].created)
        return None

    def _other_refusal(self, command: Input, step: Step) -> str | None:
        letters = self._history.letters.get(command.ref, ())
        if command.parsed.command in ("update", "refund", "create", "time"):
            return None
        codes = [letter.reason.partition(":")[0] for letter in letters]
        wanted = [] if step.refusal is None else [step.refusal]
        if codes[:1] == wanted:
            return None
        parsed = command.parsed.command
        return f"{command.name} ({parsed}) is refused with {wanted}, its dead letters say {codes}"

    def _is_goal(self, node: _Node) -> bool:
        history, facts = self._history, self._facts
        if any(i < len(q) for i, q in zip(node.indices, self._queues, strict=True)):
            return False
        if node.event < len(facts.events):
            return False
        if not history.allow_lag:
            if node.entry < len(facts.journal):
                return False
            if node.given_up < len(self._given_up):
                self._note(node, "a dead letter says of a webhook that nobody claimed it in time")
                return False
        elif node.entry < len(facts.journal) and node.state.version != facts.version:
            return False
        found = list(differences(node.state, facts, allow_lag=history.allow_lag))
        if found and (node.entry == len(facts.journal) or self.verdict.table is None):
            self.verdict.table = "; ".join(found[:3])
        return not found

    def _identity(self, node: _Node) -> tuple[object, ...]:
        return (node.indices, node.entry, node.event, node.given_up, node.state.identity())

    def _note(self, node: _Node, why: str) -> None:
        progress = node.event + sum(node.indices) + node.entry
        if progress > self._furthest:
            self._furthest, self._why = progress, []
        if progress == self._furthest and why not in self._why and len(self._why) < 3:
            self._why.append(why)

    def _dead_end(self, stack: list[_Node]) -> None:
        """Remember how far it went, and what stood in the way."""
        node, verdict, events = stack[-1], self.verdict, self._facts.events
        self._furthest = node.event + sum(node.indices) + node.entry
        verdict.order = self._path(stack)
        if node.event < len(events):
            event = events[node.event]
            verdict.ref, verdict.event_id = event.ref, event.id
            missing = f"nothing that is left causes {event.kind} (sequence {event.sequence})"
        else:
            blocked = self._choices(node.indices, node.entry)
            verdict.ref = blocked[0].ref if blocked else None
            missing = "what is left tells something else than is recorded"
        verdict.fault = "; ".join(self._why) or missing

    def _path(self, stack: list[_Node]) -> list[tuple[Command, list[Event]]]:
        events, path = self._facts.events, []
        for node, following in pairwise(stack):
            if node.command is not None:
                path.append((node.command, events[node.event : following.event]))
        return path


def _other_time(name: str, row: dict[str, Any], moment_us: int | None) -> str | None:
    recorded = row.get(name)
    if moment_us is None or recorded is None or micros(recorded) == moment_us:
        return None
    return f"{name} is {moment_text(moment_us)}, in the row {recorded}"
