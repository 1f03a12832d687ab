"""The inputs of one partition: how far each is processed, and which of them are stopped.

An input stops when too many of its records are invalid. What precedes the record that exceeded the
limit is committed, and with it, in the same transaction, that the input is stopped. Its records
wait in Kafka until an operator's command; the other inputs, requests and timers continue. It stops
likewise when its log is not the one that its position is of.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from billing_stream.engine.batch import Batch
from billing_stream.engine.input_logs import Changed, judge
from billing_stream.engine.input_names import input_name, input_of, is_added, lane_of
from billing_stream.engine.input_rows import InputRows, StopCause, StoppedInput
from billing_stream.engine.log import accepted_key, log_key, position_key, stopped_key
from billing_stream.engine.observer import InputCount
from billing_stream.engine.partition_processor import MustWait, Outgoing, Stage
from billing_stream.engine.poison import Poison, PoisonLimits, TooManyInvalidRecords
from billing_stream.kafka.topic_logs import FoundLog, LogMark
from billing_stream.records.operator_commands import AcceptTopic, OperatorCommand, SkipRecord
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import InputRecord
from billing_stream.records.upcasting.versions import WRITTEN

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Codes of dead letters: of a record that an operator skipped, and of commands that are rejected.
SKIPPED = "SKIPPED"
WRONG_PARTITION = "WRONG_PARTITION"
NOT_STOPPED = "NOT_STOPPED"
TOPIC_CHANGED = "TOPIC_CHANGED"
NOTHING_TO_ACCEPT = "NOTHING_TO_ACCEPT"
NOT_THE_NEXT = "NOT_THE_NEXT"
NEXT_UNKNOWN = "NEXT_UNKNOWN"


class GapInInput(Exception):
    """Records between two batches are missing: to continue would lose them."""


class Inputs:
    """The committed state of the inputs of a partition.

    `positions` are the offsets of the records to be processed next, `marks` the logs that they are
    of, and `stopped` the inputs that are stopped; the keys are names (`input_names`): topics, but
    for partitions that were added later. `accepted`: those of them that an operator has accepted.
    `stoppable`: topics of inputs that stop for invalid records, None for all. `lanes`: how many
    there are. `commands`: the topic with the commands of operators. That it changed is reported
    like a stop, but it is read on: by it operators accept changes.
    """

    def __init__(
        self,
        partition: int,
        *,
        rows: InputRows | None = None,
        limits: PoisonLimits | None = None,
        stoppable: Collection[str] | None = None,
        commands: str | None = None,
        lanes: int | None = None,
    ) -> None:
        rows = rows or InputRows()
        self.partition = partition
        self.lanes = lanes
        self.accepted = rows.accepted
        self.positions = rows.positions
        self.marks = rows.marks
        self.stopped = rows.stopped
        # Logs that were looked at, to be judged in the next transaction.
        self.found: dict[str, FoundLog] = {}
        self._commands = commands
        # Records to be written in the next transaction, whatever else is in it.
        self.pending: list[Outgoing] = []
        # Of each stopped input, once it was read: the record at its position.
        self.next_records: dict[str, InputRecord] = {}
        self.stoppable = stoppable
        self._limits = limits or PoisonLimits()
        self._poison: dict[str, Poison] = {}
        # Inputs that the consumer has to read from their positions again.
        self._rewound: set[str] = set()

    @property
    def held(self) -> set[str]:
        """Inputs of which nothing need be fetched now, or may be."""
        known = self.stopped.keys() & self.next_records.keys()
        return known | self.changed | self.found.keys()

    @property
    def changed(self) -> set[str]:
        """Inputs that are not read because their topics changed."""
        stops = self.stopped.items()
        return {name for name, stop in stops if stop.changed and not self.is_read_on(name)}

    def poison(self, name: str) -> Poison | None:
        """The counter of an input, None where it cannot be stopped."""
        if self.stoppable is not None and input_of(name, self.partition)[0] not in self.stoppable:
            return None
        found = self._poison.get(name)
        if found is None:
            found = self._poison[name] = Poison(self._limits)
        return found

    @property
    def has_work(self) -> bool:
        """Whether a transaction has something to do that no record or request asks for."""
        return bool(self.found or self.pending)

    def name_of(self, topic: str, partition: int) -> str | None:
        """The name of a partition of a topic; None where another lane reads it."""
        own = lane_of(partition, self.lanes) == self.partition
        return input_name(topic, partition, self.partition) if own else None

    def is_read_on(self, name: str) -> bool:
        """Whether a change of its topic is only reported."""
        return input_of(name, self.partition)[0] == self._commands

    def rewind(self, name: str) -> None:
        """Have an input read from its position again, with a new count of invalid records."""
        self._poison.pop(name, None)
        self._rewound.add(name)

    def is_rewound(self, name: str) -> bool:
        """Whether batches of an input that begin beyond its position were fetched before."""
        return name in self._rewound

    def reached(self, name: str) -> None:
        """A batch begins at the position of this input, or before it."""
        self._rewound.discard(name)


class StagedInputs:
    """What one transaction does to the inputs, not visible before `apply`."""

    def __init__(self, inputs: Inputs, stage: Stage, now: datetime) -> None:
        self.counts: list[InputCount] = []
        self._inputs = inputs
        self._stage = stage
        self._now = now
        self._reached: dict[str, int] = {}
        self._marks: dict[str, LogMark] = {}
        self._judged: list[str] = []
        self._stopped: dict[str, StoppedInput | None] = {}
        self._next: dict[str, InputRecord | None] = {}
        self._waiting: dict[str, list[Batch]] = {}
        self._accepted: dict[str, RecordRef] = {}

    @property
    def positions(self) -> dict[str, int]:
        """The positions of the lane's own inputs as they are after what was added, by topic.

        Of partitions that were added later nothing is decided here, so their order is of no use.
        """
        found = {**self._inputs.positions, **self._reached}
        return {name: position for name, position in found.items() if not is_added(name)}

    @property
    def waiting(self) -> list[Batch]:
        """Batches to be added again in the next transaction, those of a topic in order.

        A record of theirs must wait, or comes after one that must, in its topic.
        """
        return [batch for batches in self._waiting.values() for batch in batches]

    def add(self, batches: Sequence[Batch]) -> None:
        """Have the stage process records of these batches. Raises GapInInput."""
        for batch in batches:
            self._add(batch)

    def judge(self) -> None:
        """Compare positions with logs: stop an input, or adopt the id of its log."""
        inputs = self._inputs
        for name, found in inputs.found.items():
            self._judged.append(name)
            stop = self._stop_of(name)
            if stop is not None and stop.changed:
                continue
            verdict = judge(inputs.positions.get(name), inputs.marks.get(name), found)
            if isinstance(verdict, Changed):
                self._stopped[name] = StoppedInput(
                    verdict.reason, self._now, StopCause.TOPIC_CHANGED, verdict.resume, verdict.mark
                )
                self._next[name] = None
                if inputs.is_read_on(name):
                    self._move(name, verdict.resume, verdict.mark)
            else:
                self._move(name, verdict.position, verdict.mark)
                if verdict.moved is not None:
                    where = self._text(name)
                    logger.warning("input %s is read on in another log: %s", where, verdict.moved)

    def records(self, topic: str) -> list[Outgoing]:
        """The records for the changelog `topic`: positions that moved, their logs, and stops."""
        inputs = self._inputs
        found = list(inputs.pending)
        found += [
            Outgoing(topic, position_key(name), str(position).encode(), WRITTEN)
            for name, position in self._reached.items()
            if position != inputs.positions.get(name, 0)
            or (name in self._marks and name not in inputs.positions)
        ]
        found += [
            Outgoing(topic, log_key(name), msgspec.json.encode(mark), WRITTEN)
            for name, mark in self._marks.items()
            if mark != inputs.marks.get(name)
        ]
        for name, stopped in self._stopped.items():
            if stopped != inputs.stopped.get(name):
                value = None if stopped is None else msgspec.json.encode(stopped)
                found.append(Outgoing(topic, stopped_key(name), value, WRITTEN))
        for name, ref in self._accepted.items():
            found.append(Outgoing(topic, accepted_key(name), str(ref).encode(), WRITTEN))
        return found

    def apply(self) -> None:
        """Make it visible; called once, after the commit."""
        inputs = self._inputs
        inputs.positions.update(self._reached)
        inputs.accepted.update(self._accepted)
        inputs.marks.update(self._marks)
        inputs.pending.clear()
        for name in self._judged:
            del inputs.found[name]
        for name, stopped in self._stopped.items():
            if stopped is not None:
                inputs.stopped[name] = stopped
                logger.critical("input %s stops: %s", self._text(name), stopped.reason)
            else:
                inputs.stopped.pop(name, None)
        for name, record in self._next.items():
            if record is not None:
                inputs.next_records[name] = record
            else:
                inputs.next_records.pop(name, None)

    def _add(self, batch: Batch) -> None:
        name, inputs = batch.name, self._inputs
        if name in self._waiting:
            self._waiting[name].append(batch)
            return
        position = self._position(name)
        stop = self._stop_of(name)
        stopped = stop is not None and not inputs.is_read_on(name)
        if batch.start > position:
            if stopped or inputs.is_rewound(name):
                return
            raise GapInInput(f"{self._text(name)} was read from {batch.start}, not {position}")
        inputs.reached(name)
        if stopped:
            if stop is not None and not stop.changed and self._next_of(name) is None:
                following = (one for one in batch.records if one.offset >= position)
                self._next[name] = next(following, None)
            return
        self._reached[name] = self._process(batch, position)

    def _text(self, name: str) -> str:
        topic, partition = input_of(name, self._inputs.partition)
        return f"{topic}[{partition}]"

    def _process(self, batch: Batch, position: int) -> int:
        """Take the records from `position`; the position after those that were taken."""
        topic, name, add = batch.topic, batch.name, self._stage.add_record
        poison = self._inputs.poison(name)
        count, reached, last = 0, max(position, batch.end), None
        for record in batch.records:
            if record.offset < position:
                continue
            try:
                taken = add(topic, record)
            except MustWait:
                self._waiting[name] = [batch]
                reached = record.offset
                break
            if not isinstance(taken, bool):
                self._carry_out(taken, record)
            elif poison is not None:
                try:
                    poison.note(invalid=not taken)
                except TooManyInvalidRecords as error:
                    self._stage.take_back()
                    self._stopped[name] = StoppedInput(str(error), self._now)
                    self._next[name] = record
                    reached = record.offset
                    break
            count, last = count + 1, record
        if last is not None:
            self._note_last(name, last)
        self.counts.append(InputCount(topic, count))
        return reached

    def _carry_out(self, command: OperatorCommand, record: InputRecord) -> None:
        name = self._inputs.name_of(command.topic, command.partition)
        ref = RecordRef.of(record)
        if name is None:
            where = f"{command.topic}[{command.partition}]"
            self._reject(
                record, WRONG_PARTITION, f"{where} is not of partition {self._inputs.partition}"
            )
            return
        rejection = self._rejection(command, name)
        if rejection is not None:
            self._reject(record, *rejection)
            return
        logger.info("%s: %s, asked for by %s", ref, type(command).__name__, command.by)
        following, stop = self._next_of(name), self._stop_of(name)
        if isinstance(command, AcceptTopic) and stop is None:
            self._accepted[name] = ref
            return
        if isinstance(command, SkipRecord) and following is not None:
            reason = f"{SKIPPED}: skipped by {command.by} with {ref}: {command.reason}"
            self._stage.divert(following, SKIPPED, reason)
            self._reached[name] = following.offset + 1
            self._note_last(name, following)
        else:
            self._stopped[name] = None
        if self._inputs.is_read_on(name):
            return
        if isinstance(command, AcceptTopic) and stop is not None and stop.resume is not None:
            self._move(name, stop.resume, stop.mark)
        self._next[name] = None
        self._inputs.rewind(name)

    def _reject(self, record: InputRecord, code: str, text: str) -> None:
        self._stage.divert(record, code, f"{code}: {text}")

    def _rejection(self, command: OperatorCommand, name: str) -> tuple[str, str] | None:
        """The code and the text of why a command is not carried out, or None."""
        where = f"{command.topic}[{command.partition}]"
        stopped = self._stop_of(name)
        changed = stopped is not None and stopped.changed
        if isinstance(command, AcceptTopic):
            known = name in self._inputs.accepted or name in self._accepted
            if changed or (stopped is None and is_added(name) and not known):
                return None
            what = "is accepted already" if known else "has not changed"
            return NOTHING_TO_ACCEPT, f"the topic of {where} {what}"
        if stopped is None:
            return NOT_STOPPED, f"input {where} is not stopped"
        if changed:
            return TOPIC_CHANGED, f"the topic of {where} has changed: accept that first"
        if isinstance(command, SkipRecord):
            following = self._next_of(name)
            if following is None:
                return NEXT_UNKNOWN, f"the next record of {where} is not read yet: try again"
            if following.offset != command.offset:
                return NOT_THE_NEXT, f"the next record of {where} is {following.offset}"
        return None

    def _move(self, name: str, position: int, mark: LogMark | None) -> None:
        self._reached[name] = position
        if mark is not None:
            self._marks[name] = mark

    def _note_last(self, name: str, record: InputRecord) -> None:
        """Keep with the mark which record was read last; without a mark, nothing."""
        mark = self._marks.get(name) or self._inputs.marks.get(name)
        if mark is not None:
            last = record.offset, record.timestamp
            self._marks[name] = LogMark(mark.cluster, mark.topic_id, *last)

    def _position(self, name: str) -> int:
        return self._reached.get(name, self._inputs.positions.get(name, 0))

    def _stop_of(self, name: str) -> StoppedInput | None:
        return _either(self._stopped, self._inputs.stopped, name)

    def _next_of(self, name: str) -> InputRecord | None:
        return _either(self._next, self._inputs.next_records, name)


def _either(staged: Mapping[str, T | None], committed: Mapping[str, T], name: str) -> T | None:
    return staged[name] if name in staged else committed.get(name)
