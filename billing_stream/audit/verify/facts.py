"""What a log says, sorted by whom it is about: the material of every check."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from billing_stream.audit.verify.catalogue_versions import CatalogueFacts, Version, known_from
from billing_stream.audit.verify.log_records import partition_of
from billing_stream.audit.verify.model_state import EventContent
from billing_stream.audit.verify.shop_claims import ShopFacts
from billing_stream.audit.verify.shop_trials import ShopTrialFacts
from billing_stream.audit.verify.verify_charges import ChargeFacts
from billing_stream.audit.verify.verify_inputs import ParsedCommand
from billing_stream.audit.written_order import OrderMark, Place, WrittenOrder
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.topics import Topics

# The kind of a stop for a topic that is not the one that was read.
TOPIC_CHANGED = "topic_changed"


class Input(NamedTuple):
    """A good input record that its lane has read. `at` is its timestamp, in microseconds.

    `digest`, of commands and refunds only, is what their dead letter must have, if there is one.
    `redriven` is the dead letter it is a copy of, or empty.
    """

    topic: str
    partition: int
    offset: int
    at: int
    parsed: ParsedCommand
    digest: int = 0
    redriven: str = ""

    @property
    def ref(self) -> RecordRef:
        """Where it is."""
        return RecordRef.of(self)

    @property
    def name(self) -> str:
        """Where it is, as others name it: the id of a command that came from a topic."""
        return self.parsed.command_id


class Entry(NamedTuple):
    """An entry of the journal; `place` is where it stands among all decisions."""

    ref: RecordRef
    origin: str
    correlation: str
    at: int
    parsed: ParsedCommand
    place: Place


class Event(NamedTuple):
    """A published event. `digest` is of its bytes."""

    ref: RecordRef
    id: str
    merchant: str
    sequence: int
    cause: str
    correlation: str
    at: int
    content: EventContent
    digest: int
    # Currency, pack and version of a purchase, where it says them.
    sold: tuple[str | int | None, ...] = (None, None, None)

    @property
    def kind(self) -> str:
        """The kind of event, e.g. trial.started."""
        return self.content[0]

    @property
    def origin_key(self) -> tuple[str, str]:
        """What an entry of the journal has in common with its events."""
        return self.cause, self.correlation

    @property
    def subject(self) -> str:
        """The purchase, or for a trial the merchant."""
        return self.content[1] or self.merchant


class DeadLetterFact(NamedTuple):
    """A dead letter. `digest` is of key, value and headers of the record it keeps.

    `given_up`: it may be the letter of a parked webhook, which says what was parked. `parsed` is
    what such a letter says, or None: older ones have too little to be redriven.
    """

    ref: RecordRef
    reason: str
    digest: int
    at: int
    given_up: bool
    parsed: ParsedCommand | None = None


class Action(NamedTuple):
    """What someone did with a dead letter, by the ledger of `billing-stream dlq`."""

    ref: RecordRef
    letter: str
    action: str
    target: str | None
    again: bool


@dataclass(slots=True)
class Facts:
    """One merchant."""

    merchant: str
    partition: int
    inputs: dict[str, list[Input]] = field(default_factory=dict)
    journal: list[Entry] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    # Events after the cut: they belong to transactions later than the rows that were read.
    later: int = 0
    row: dict[str, Any] | None = None
    row_ref: RecordRef | None = None
    # What older rows said, by version: sequence, clock, total, parked.
    passed: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    purchases: dict[str, dict[str, Any]] = field(default_factory=dict)
    adjustments: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    @property
    def sequence(self) -> int:
        """How many events there are by the merchant's row."""
        return int((self.row or {}).get("sequence", 0))

    @property
    def version(self) -> int:
        """How many changes there are by the merchant's row."""
        return int((self.row or {}).get("version", 0))

    def every_input(self) -> Iterator[Input]:
        """The input records, topic by topic."""
        for found in self.inputs.values():
            yield from found

    def parsed(self) -> Iterator[tuple[ParsedCommand, Input | None]]:
        """All commands, of topics and of the journal."""
        for found in self.every_input():
            yield found.parsed, found
        for entry in self.journal:
            yield entry.parsed, None


class ReadViolation(NamedTuple):
    """A fault that shows while reading: of which check, what, where."""

    check: str
    what: str
    ref: RecordRef | None = None
    event_id: str | None = None
    merchant: str | None = None


def input_of(name: str, lane: int) -> tuple[str, int]:
    """The input of a lane: `topic`, or `topic[partition]` for one that was added to its topic."""
    topic, bracket, number = name.rstrip("]").partition("[")
    return topic, int(number) if bracket else lane


@dataclass
class History:
    """Everything that was read. `allow_lag`: more may have happened than was read."""

    topics: Topics
    partitions: int
    allow_lag: bool
    # Only one merchant was read: of the records of others nothing is known.
    only: bool = False
    merchants: dict[str, Facts] = field(default_factory=dict)
    # Per lane: up to where it has read each input, by topic or, where it was added, topic[number].
    positions: dict[int, dict[str, int]] = field(default_factory=dict)
    # Per partition: how far the order of records is written, and that order.
    order_marks: dict[int, OrderMark] = field(default_factory=dict)
    orders: dict[int, WrittenOrder] = field(default_factory=dict)
    # Per input partition: the place after its last record.
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    bad: dict[RecordRef, int] = field(default_factory=dict)
    bad_reasons: dict[RecordRef, str] = field(default_factory=dict)
    letters: dict[RecordRef, list[DeadLetterFact]] = field(default_factory=dict)
    # Good records of other partitions: their references and digests; copies by where from.
    foreign: dict[RecordRef, int] = field(default_factory=dict)
    copies: dict[RecordRef, list[tuple[RecordRef, int]]] = field(default_factory=dict)
    # Dead letters by reference, each with the first of its line: the letter that names it stands in
    # the header of its copies. Copies by reference; copies of what a copy before had carried out.
    lines: dict[str, str] = field(default_factory=dict)
    redriven: dict[str, str] = field(default_factory=dict)
    repeated: dict[RecordRef, int] = field(default_factory=dict)
    actions: list[Action] = field(default_factory=list)
    # Commands of operators by reference, each with the record that it skips, if it is to skip one.
    operator_commands: dict[RecordRef, RecordRef | None] = field(default_factory=dict)
    catalogue: CatalogueFacts = field(default_factory=CatalogueFacts)
    charges: ChargeFacts = field(default_factory=ChargeFacts)
    shop_trials: ShopTrialFacts = field(default_factory=ShopTrialFacts)
    _known: dict[int, list[tuple[Place, Version]]] = field(default_factory=dict)
    # Why inputs are stopped, per input partition: the reason and its kind.
    # Per partition: the first moment by which workers are known to publish reminders.
    reminded_from: dict[int, int] = field(default_factory=dict)
    stopped: dict[tuple[str, int], tuple[str, str | None]] = field(default_factory=dict)
    # Which logs the positions are of, as the lanes wrote it; and of logs that are others now: why.
    marks: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    changed: dict[tuple[str, int], str] = field(default_factory=dict)
    # Per partition: what each changelog (its topic) says of the ids of all, by table.
    changelogs: dict[int, dict[str, dict[str, str]]] = field(default_factory=dict)
    # Records on which a rule failed, and which did nothing.
    failed: list[RecordRef] = field(default_factory=list)
    # Per input partition: the first record beyond the position, and how many there are.
    unread: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    ids: dict[str, Event] = field(default_factory=dict)
    shops: ShopFacts = field(default_factory=ShopFacts)
    troubles: list[ReadViolation] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    # Topics whose oldest records are gone, in some partition.
    cut: set[str] = field(default_factory=set)
    # Partitions whose inputs or journal do not begin at the beginning any more.
    incomplete: set[int] = field(default_factory=set)

    def facts(self, merchant: str) -> Facts:
        """The facts of a merchant, made when it is new."""
        found = self.merchants.get(merchant)
        if found is None:
            found = Facts(merchant, partition_of(merchant, self.partitions))
            self.merchants[merchant] = found
        return found

    def order(self, partition: int) -> WrittenOrder:
        """The order of a partition's records. To be asked for when its changelog was read."""
        found = self.orders.get(partition)
        if found is None:
            mark = self.order_marks.get(partition, OrderMark())
            found = self.orders[partition] = WrittenOrder(mark)
        return found

    def versions(self, partition: int) -> list[tuple[Place, Version]]:
        """The versions that a partition knows, with the places from which on; all was read."""
        if partition not in self._known:
            topic, order = self.topics.name(names.OPERATOR_COMMANDS), self.order(partition)
            found = known_from(self.catalogue, partition, topic, order, self.letters)
            self._known[partition] = found
        return self._known[partition]

    def reminds(self, partition: int, at: int) -> None:
        """Note that workers of a partition published reminders by `at`."""
        self.reminded_from[partition] = min(at, self.reminded_from.get(partition, at))

    def is_read(self, topic: str, partition: int, offset: int) -> bool:
        """Whether the lane's committed position is beyond the record."""
        return offset < self.position(topic, partition)

    def position(self, topic: str, partition: int) -> int:
        """How far a lane has read a partition; one that was added is read by another lane."""
        lane = partition % self.partitions
        name = topic if lane == partition else f"{topic}[{partition}]"
        return self.positions.get(lane, {}).get(name, 0)

    def complete(self) -> Iterator[Facts]:
        """The merchants with their whole history in the log."""
        for facts in self.merchants.values():
            if facts.partition not in self.incomplete:
                yield facts

    def input_topics(self) -> list[str]:
        """Full names of the inputs that are about merchants."""
        return [self.topics.name(topic) for topic in names.OF_MERCHANTS]
