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
from billing_stream.engine.input_rows import InputRows, StopCause, StoppedInput
from billing_stream.engine.log import log_key, position_key, stopped_key
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
    of, and `stopped` the inputs that are stopped, by topic. `stoppable`: those that stop for
    invalid records, None for all of them. `commands`: the one with the commands of operators. That
    it changed is reported like a stop, but it is read on: by it operators accept changes.
    """

    def __init__(
        self,
        partition: int,
        *,
        rows: InputRows | None = None,
        limits: PoisonLimits | None = None,
        stoppable: Collection[str] | None = None,
        commands: str | None = None,
    ) -> None:
        rows = rows or InputRows()
        self.partition = partition
        self.positions = rows.positions
        self.marks = rows.marks
        self.stopped = rows.stopped
        # Logs that were looked at, to be judged in the next transaction.
        self.found: dict[str, FoundLog] = {}
        self.commands = commands
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
        return {t for t, stop in self.stopped.items() if stop.changed and t != self.commands}

    def poison(self, topic: str) -> Poison | None:
        """The counter of an input, None where it cannot be stopped."""
        if self.stoppable is not None and topic not in self.stoppable:
            return None
        found = self._poison.get(topic)
        if found is None:
            found = self._poison[topic] = Poison(self._limits)
        return found

    @property
    def has_work(self) -> bool:
        """Whether a transaction has something to do that no record or request asks for."""
        return bool(self.found or self.pending)

    def rewind(self, topic: str) -> None:
        """Have an input read from its position again, with a new count of invalid records."""
        self._poison.pop(topic, None)
        self._rewound.add(topic)

    def is_rewound(self, topic: str) -> bool:
        """Whether batches of an input that begin beyond its position were fetched before."""
        return topic in self._rewound

    def reached(self, topic: str) -> None:
        """A batch begins at the position of this input, or before it."""
        self._rewound.discard(topic)


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

    @property
    def positions(self) -> dict[str, int]:
        """The positions of all inputs as they are after what was added."""
        return {**self._inputs.positions, **self._reached}

    @property
    def waiting(self) -> list[Batch]:
        """Batches to be added again in the next transaction, those of a topic in order.

        A record of theirs must wait, or comes after one that must, in its topic.
        """
        return [batch for batches in self._waiting.values() for batch in batches]

    def add(self, batches: Sequence[Batch]) -> None:
        """Have the stage process records of these batches. Raises GapInInput."""
        for batch in batches:
            if self._stop_of(batch.topic) is None:
                self._stage.prefetch(batch.topic, batch.records)
        for batch in batches:
            self._add(batch)

    def judge(self) -> None:
        """Compare positions with logs: stop an input, or adopt the id of its log."""
        inputs = self._inputs
        for topic, found in inputs.found.items():
            self._judged.append(topic)
            stop = self._stop_of(topic)
            if stop is not None and stop.changed:
                continue
            verdict = judge(inputs.positions.get(topic), inputs.marks.get(topic), found)
            if isinstance(verdict, Changed):
                self._stopped[topic] = StoppedInput(
                    verdict.reason, self._now, StopCause.TOPIC_CHANGED, verdict.resume, verdict.mark
                )
                self._next[topic] = None
                if topic == inputs.commands:
                    self._move(topic, verdict.resume, verdict.mark)
            else:
                self._move(topic, verdict.position, verdict.mark)
                if verdict.moved is not None:
                    where = f"{topic}[{inputs.partition}]"
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
        return found

    def apply(self) -> None:
        """Make it visible; called once, after the commit."""
        inputs = self._inputs
        inputs.positions.update(self._reached)
        inputs.marks.update(self._marks)
        inputs.pending.clear()
        for topic in self._judged:
            del inputs.found[topic]
        for topic, stopped in self._stopped.items():
            if stopped is not None:
                inputs.stopped[topic] = stopped
                where = f"{topic}[{inputs.partition}]"
                logger.critical("input %s stops: %s", where, stopped.reason)
            else:
                inputs.stopped.pop(topic, None)
        for topic, record in self._next.items():
            if record is not None:
                inputs.next_records[topic] = record
            else:
                inputs.next_records.pop(topic, None)

    def _add(self, batch: Batch) -> None:
        topic, inputs = batch.topic, self._inputs
        if topic in self._waiting:
            self._waiting[topic].append(batch)
            return
        position = self._position(topic)
        stop = self._stop_of(topic)
        stopped = stop is not None and topic != inputs.commands
        if batch.start > position:
            if stopped or inputs.is_rewound(topic):
                return
            raise GapInInput(
                f"{topic}[{inputs.partition}] was read from {batch.start}, not {position}"
            )
        inputs.reached(topic)
        if stopped:
            if stop is not None and not stop.changed and self._next_of(topic) is None:
                following = (one for one in batch.records if one.offset >= position)
                self._next[topic] = next(following, None)
            return
        self._reached[topic] = self._process(batch, position)

    def _process(self, batch: Batch, position: int) -> int:
        """Take the records from `position`; the position after those that were taken."""
        topic, add = batch.topic, self._stage.add_record
        poison = self._inputs.poison(topic)
        count, reached, last = 0, max(position, batch.end), None
        for record in batch.records:
            if record.offset < position:
                continue
            try:
                taken = add(topic, record)
            except MustWait:
                self._waiting[topic] = [batch]
                reached = record.offset
                break
            if not isinstance(taken, bool):
                self._carry_out(taken, record)
            elif poison is not None:
                try:
                    poison.note(invalid=not taken)
                except TooManyInvalidRecords as error:
                    self._stage.take_back()
                    self._stopped[topic] = StoppedInput(str(error), self._now)
                    self._next[topic] = record
                    reached = record.offset
                    break
            count, last = count + 1, record
        if last is not None:
            self._note_last(topic, last)
        self.counts.append(InputCount(topic, count))
        return reached

    def _carry_out(self, command: OperatorCommand, record: InputRecord) -> None:
        rejection = self._rejection(command)
        if rejection is not None:
            code, text = rejection
            self._stage.divert(record, code, f"{code}: {text}")
            return
        topic, ref = command.topic, RecordRef.of(record)
        logger.info("%s: %s, asked for by %s", ref, type(command).__name__, command.by)
        following, stop = self._next_of(topic), self._stop_of(topic)
        if isinstance(command, SkipRecord) and following is not None:
            reason = f"{SKIPPED}: skipped by {command.by} with {ref}: {command.reason}"
            self._stage.divert(following, SKIPPED, reason)
            self._reached[topic] = following.offset + 1
            self._note_last(topic, following)
        else:
            self._stopped[topic] = None
        if topic == self._inputs.commands:
            return
        if isinstance(command, AcceptTopic) and stop is not None and stop.resume is not None:
            self._move(topic, stop.resume, stop.mark)
        self._next[topic] = None
        self._inputs.rewind(topic)

    def _rejection(self, command: OperatorCommand) -> tuple[str, str] | None:
        """The code and the text of why a command is not carried out, or None."""
        where = f"{command.topic}[{command.partition}]"
        if command.partition != self._inputs.partition:
            return WRONG_PARTITION, f"{where} is not of partition {self._inputs.partition}"
        stopped = self._stop_of(command.topic)
        changed = stopped is not None and stopped.changed
        if isinstance(command, AcceptTopic):
            return None if changed else (NOTHING_TO_ACCEPT, f"the topic of {where} has not changed")
        if stopped is None:
            return NOT_STOPPED, f"input {where} is not stopped"
        if changed:
            return TOPIC_CHANGED, f"the topic of {where} has changed: accept that first"
        if isinstance(command, SkipRecord):
            following = self._next_of(command.topic)
            if following is None:
                return NEXT_UNKNOWN, f"the next record of {where} is not read yet: try again"
            if following.offset != command.offset:
                return NOT_THE_NEXT, f"the next record of {where} is {following.offset}"
        return None

    def _move(self, topic: str, position: int, mark: LogMark | None) -> None:
        self._reached[topic] = position
        if mark is not None:
            self._marks[topic] = mark

    def _note_last(self, topic: str, record: InputRecord) -> None:
        """Keep with the mark which record was read last; without a mark, nothing."""
        mark = self._marks.get(topic) or self._inputs.marks.get(topic)
        if mark is not None:
            last = record.offset, record.timestamp
            self._marks[topic] = LogMark(mark.cluster, mark.topic_id, *last)

    def _position(self, topic: str) -> int:
        return self._reached.get(topic, self._inputs.positions.get(topic, 0))

    def _stop_of(self, topic: str) -> StoppedInput | None:
        return _either(self._stopped, self._inputs.stopped, topic)

    def _next_of(self, topic: str) -> InputRecord | None:
        return _either(self._next, self._inputs.next_records, topic)


def _either(staged: Mapping[str, T | None], committed: Mapping[str, T], topic: str) -> T | None:
    return staged[topic] if topic in staged else committed.get(topic)
