"""The inputs of one partition: how far each is processed, and which of them are stopped.

An input stops when too many of its records are invalid. What precedes the record that exceeded the
limit is committed, and with it, in the same transaction, that the input is stopped. Its records
wait in Kafka until an operator's command; the other inputs, requests and timers continue. It stops
likewise when its log is not the one that its position is of.
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from billing_stream.engine.input_commands import carry_out
from billing_stream.engine.input_names import input_name, input_of, is_added, lane_of
from billing_stream.engine.input_rows import InputRows, StoppedInput
from billing_stream.engine.log import (
    ACCEPTED_PREFIX,
    LOG_PREFIX,
    ORDER_KEY,
    POSITION_PREFIX,
    STOPPED_PREFIX,
)
from billing_stream.engine.observer import InputCount
from billing_stream.engine.partition_processor import MustWait, Outgoing, Stage
from billing_stream.engine.poison import Poison, PoisonLimits, TooManyInvalidRecords
from billing_stream.engine.record_order import StagedOrder
from billing_stream.kafka.topic_logs import FoundLog, LogMark
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import InputRecord, encode
from billing_stream.records.upcasting.versions import WRITTEN

logger = logging.getLogger(__name__)
T = TypeVar("T")

# A record of more than this counts as several where records wait.
RECORD_BYTES = 4096


@dataclass(slots=True)
class Batch:
    """Records of one input partition, in order.

    `start` is the position from which they were read: one beyond what the lane has taken
    would leave a gap. `epoch` counts seeks: what was delivered
    before the last seek is delivered again after it. `weight` is how many records wait with
    it, large ones counted several times. `lane` is the number of the lane that reads the input,
    and `name` that of the input there, see `input_names`: the topic, if it is not given.
    """

    topic: str
    records: list[InputRecord]
    start: int
    epoch: int
    name: str = ""
    lane: int = 0
    weight: int = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.name or self.topic
        size = sum(len(record.value or b"") for record in self.records)
        self.weight = max(len(self.records), size // RECORD_BYTES)

    @property
    def end(self) -> int:
        """The position after the last record."""
        return self.records[-1].offset + 1


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
        self.order = rows.order
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
        # How many valid records of each came after the last that was not.
        self.valid: Counter[str] = Counter()
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

    def note_invalid(self, batch: Batch) -> None:
        """Count an invalid record of an input. Raises TooManyInvalidRecords."""
        if self.stoppable is not None and batch.topic not in self.stoppable:
            return
        found = self._poison.get(batch.name)
        if found is None:
            found = self._poison[batch.name] = Poison(self._limits)
        found.note_invalid(self.valid.pop(batch.name, 0))

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
        self.valid.pop(name, None)
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
        self.order = StagedOrder(inputs.order, inputs.positions)
        self.inputs = inputs
        self.stage = stage
        self.now = now
        self.reached: dict[str, int] = {}
        self.marks: dict[str, LogMark] = {}
        self.judged: list[str] = []
        self.stopped: dict[str, StoppedInput | None] = {}
        self.next_records: dict[str, InputRecord | None] = {}
        self._waiting: dict[str, list[Batch]] = {}
        self.accepted: dict[str, RecordRef] = {}

    @property
    def positions(self) -> dict[str, int]:
        """The positions of the lane's own inputs as they are after what was added, by topic.

        Of partitions that were added later nothing is decided here, so their order is of no use.
        """
        found = {**self.inputs.positions, **self.reached}
        return {name: position for name, position in found.items() if not is_added(name)}

    @property
    def must_wait(self) -> bool:
        """Whether a batch is not, or not whole, in this transaction."""
        return bool(self._waiting)

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

    def records(self, topic: str) -> list[Outgoing]:
        """The records for the changelog `topic`: positions that moved, their logs, and stops."""
        inputs = self.inputs
        found = list(inputs.pending)

        def add(key: bytes, row: Any) -> None:
            value = None if row is None else encode(row)
            found.append(Outgoing(topic, key, value, WRITTEN))

        order = self.order.mark(self.reached)
        if order is not None:
            add(ORDER_KEY, order)
        for name, position in self.reached.items():
            is_new = name in self.marks and name not in inputs.positions
            if is_new or position != inputs.positions.get(name, 0):
                add(POSITION_PREFIX + name.encode(), position)
        for name, mark in self.marks.items():
            if mark != inputs.marks.get(name):
                add(LOG_PREFIX + name.encode(), mark)
        for name, stopped in self.stopped.items():
            if stopped != inputs.stopped.get(name):
                add(STOPPED_PREFIX + name.encode(), stopped)
        for name, ref in self.accepted.items():
            key = ACCEPTED_PREFIX + name.encode()
            found.append(Outgoing(topic, key, str(ref).encode(), WRITTEN))
        return found

    def apply(self) -> None:
        """Make it visible; called once, after the commit."""
        inputs = self.inputs
        inputs.order = self.order.mark(self.reached) or inputs.order
        inputs.positions.update(self.reached)
        inputs.accepted.update(self.accepted)
        inputs.marks.update(self.marks)
        inputs.pending.clear()
        for name in self.judged:
            del inputs.found[name]
        for name, stopped in self.stopped.items():
            if stopped is not None:
                inputs.stopped[name] = stopped
                logger.critical("input %s stops: %s", self.text(name), stopped.reason)
            else:
                inputs.stopped.pop(name, None)
        for name, record in self.next_records.items():
            if record is not None:
                inputs.next_records[name] = record
            else:
                inputs.next_records.pop(name, None)

    def _add(self, batch: Batch) -> None:
        name, inputs = batch.name, self.inputs
        if name in self._waiting:
            self._waiting[name].append(batch)
            return
        position = self.position(name)
        stop = self.stop_of(name)
        stopped = stop is not None and not inputs.is_read_on(name)
        if batch.start > position:
            if stopped or inputs.is_rewound(name):
                return
            raise GapInInput(f"{self.text(name)} was read from {batch.start}, not {position}")
        inputs.reached(name)
        if stopped:
            if stop is not None and not stop.changed and self.next_of(name) is None:
                following = (one for one in batch.records if one.offset >= position)
                self.next_records[name] = next(following, None)
            return
        self.reached[name] = self._process(batch, position)

    def text(self, name: str) -> str:
        """An input as `topic[partition]`."""
        topic, partition = input_of(name, self.inputs.partition)
        return f"{topic}[{partition}]"

    def _process(self, batch: Batch, position: int) -> int:
        """Take the records from `position`; the position after those that were taken."""
        topic, name, add = batch.topic, batch.name, self.stage.add_record
        valid = self.inputs.valid
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
                carry_out(self, taken, record)
            elif taken:
                valid[name] += 1
            else:
                try:
                    self.inputs.note_invalid(batch)
                except TooManyInvalidRecords as error:
                    self.stage.take_back()
                    self.stopped[name] = StoppedInput(str(error), self.now)
                    self.next_records[name] = record
                    reached = record.offset
                    break
            count, last = count + 1, record
        if last is not None:
            self.note_last(name, last)
        self.counts.append(InputCount(topic, count))
        self.order.note(name, position, reached)
        return reached

    def move(self, name: str, position: int, mark: LogMark | None) -> None:
        """Have an input continue at a position, of this log if it is given."""
        self.order.note(name, self.position(name), position, moved=True)
        self.reached[name] = position
        if mark is not None:
            self.marks[name] = mark

    def note_last(self, name: str, record: InputRecord) -> None:
        """Keep with the mark which record was read last; without a mark, nothing."""
        mark = self.marks.get(name) or self.inputs.marks.get(name)
        if mark is not None:
            last = record.offset, record.timestamp
            self.marks[name] = LogMark(mark.cluster, mark.topic_id, *last)

    def position(self, name: str) -> int:
        """The position of an input, staged or committed."""
        return self.reached.get(name, self.inputs.positions.get(name, 0))

    def stop_of(self, name: str) -> StoppedInput | None:
        """Why an input is stopped, staged stops included."""
        return _either(self.stopped, self.inputs.stopped, name)

    def next_of(self, name: str) -> InputRecord | None:
        """The record at the position of a stopped input, where it is known."""
        return _either(self.next_records, self.inputs.next_records, name)


def _either(staged: Mapping[str, T | None], committed: Mapping[str, T], name: str) -> T | None:
    return staged[name] if name in staged else committed.get(name)
