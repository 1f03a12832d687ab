"""The records of one partition, merchant by merchant."""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from billing_stream.audit.replay.core.merchant_run import parse_event
from billing_stream.audit.replay.core.records import (
    Entry,
    Input,
    KnownVersion,
    Recorded,
    RecordedDeadLetter,
    RecordedEvent,
    Row,
)
from billing_stream.audit.replay.history_source import ReplayError, Source
from billing_stream.audit.written_order import OrderMark, Place, WrittenOrder, unproved
from billing_stream.domain.commands import UUID_TEXT
from billing_stream.domain.outcomes import TrialEnding, TrialExtended
from billing_stream.domain.policy import RULES
from billing_stream.engine.input_commands import SKIPPED
from billing_stream.engine.log import POSITION_PREFIX, RESERVED_PREFIX
from billing_stream.engine.partitioner import partition_of
from billing_stream.errors import InvalidRecord, UnreadableRow
from billing_stream.records import schemas, topics
from billing_stream.records.catalogue_records import PARTITION, CatalogueRecord, SetVersion
from billing_stream.records.operator_commands import BY_OPERATORS, AdoptCatalogue
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.schemas import InputRecord
from billing_stream.records.topics import Topics
from billing_stream.records.upcasting.versions import upcast, version_of

# Rows of a merchant lie in its partition, but for shops and charges, which have keys of their own.
_OTHERS = (topics.SHOPS_TABLE, topics.CHARGES_TABLE)
TABLES = tuple(table for table in topics.TABLES if table not in _OTHERS)
INPUTS = topics.OF_MERCHANTS
BYTES_MAX = 1 << 30
# From this version of the state on, workers publish that a trial is about to end.
REMINDED = 5
_catalogue_record: Callable[[bytes], CatalogueRecord]
_catalogue_record = msgspec.json.Decoder(CatalogueRecord).decode


class _Named(Struct):
    merchant_id: Any = None


class _Letter(Struct):
    topic: str
    partition: int
    offset: int
    reason: str
    timestamp: str


_payload = msgspec.json.Decoder(_Named)
_letter = msgspec.json.Decoder(_Letter)
_uuid = re.compile(UUID_TEXT)


@dataclass
class History:
    """One partition. `moving` are merchants that were changing while they were read.

    `positions` say how far the inputs were processed, `waiting` are the merchants' records
    beyond. `nameless` are places of records that name no merchant; `letters` are all dead
    letters, by the reference of their record.
    """

    partition: int
    merchants: dict[str, Recorded] = field(default_factory=dict)
    moving: set[str] = field(default_factory=set)
    positions: dict[str, int] = field(default_factory=dict)
    waiting: list[Input] = field(default_factory=list)
    nameless: list[str] = field(default_factory=list)
    letters: dict[str, list[RecordedDeadLetter]] = field(default_factory=dict)
    records: int = 0


async def read_partition(
    source: Source, names: Topics, partition: int, partitions: int, only: str | None = None
) -> History:
    """Read all of a partition, or all of one merchant in it.

    The changelogs come first, and what is new in them last: what a merchant's row says is then
    true of all that was read in between, unless it is in `moving`. Raises ReplayError.
    """
    reader = _Reader(names, partition, partitions, only)
    changelogs = [names.changelog(table) for table in TABLES]
    async for records in source.read(changelogs, partition):
        reader.take_rows(records)
    reader.freeze()
    rest = [names.name(topic) for topic in (*INPUTS, topics.JOURNAL, topics.DEAD_LETTERS)]
    rest += [names.name(topics.event_type(kind)) for kind in topics.EVENT_TYPES]
    rest += [names.name(topics.OPERATOR_COMMANDS)]
    # Partition 0 decides versions and notifies the others.
    rest += [names.name(topics.CATALOGUE)] if partition == PARTITION else []
    async for records in source.read(rest, partition):
        reader.take(records)
    async for records in source.read(changelogs, partition):
        reader.take_news(records)
    return reader.finish()


class _Reader:
    def __init__(self, names: Topics, partition: int, partitions: int, only: str | None) -> None:
        self._names = names
        self._partitions = partitions
        self._only = only
        self._tables = {names.changelog(table): table for table in TABLES}
        self._bases = {names.name(topic): topic for topic in INPUTS}
        self._journal = names.name(topics.JOURNAL)
        self._dead_letters = names.name(topics.DEAD_LETTERS)
        self._history = History(partition)
        self._frozen: dict[str, int] = {}
        self._inputs: dict[str, dict[str, list[Input]]] = defaultdict(lambda: defaultdict(list))
        self._order = WrittenOrder(OrderMark())
        self._entries: list[tuple[str, Place, Entry]] = []
        self._operator_commands = names.name(topics.OPERATOR_COMMANDS)
        self._catalogue = names.name(topics.CATALOGUE)
        # Versions of the catalogue, with offset and time of the commands that made them known.
        self._versions: list[tuple[int, int, SetVersion]] = []
        kinds = (TrialEnding.kind, TrialExtended.kind)
        self._of_trials = {names.name(topics.event_type(kind)) for kind in kinds}
        # When workers are known to have published reminders.
        self._reminded: list[datetime] = []

    def take_rows(self, records: Sequence[InputRecord]) -> None:
        """Rows and positions as they were at the beginning."""
        for record in records:
            key = record.key or b""
            if key.startswith(RESERVED_PREFIX):
                self._take_position(key, record.value)
                continue
            table = self._tables[record.topic]
            value = _row(table, record)
            merchant_id = _owner(table, key.decode(), value)
            if table == topics.BILLING_RECORDS and value and version_of(record) >= REMINDED:
                self._reminded.append(datetime.fromisoformat(value["updated_at"]))
            if merchant_id is not None and self._wanted(merchant_id):
                self._of(merchant_id).rows.append(Row(table, key.decode(), value))

    def take_news(self, records: Sequence[InputRecord]) -> None:
        """What is new in the changelogs: rows of merchants that were changing."""
        for record in records:
            key = record.key or b""
            if key.startswith(RESERVED_PREFIX):
                self._take_position(key, record.value)
                continue
            table = self._tables[record.topic]
            owner = _owner(table, key.decode(), _row(table, record))
            if owner is not None:
                self._history.moving.add(owner)

    def freeze(self) -> None:
        """The rows are read: records beyond these positions are not in them."""
        self._frozen = dict(self._history.positions)

    def take(self, records: Sequence[InputRecord]) -> None:
        """Inputs, journal, dead letters and events. Raises ReplayError."""
        for record in records:
            self._history.records += 1
            base = self._bases.get(record.topic)
            if base is not None:
                self._take_input(base, record)
                continue
            if record.topic == self._operator_commands:
                self._take_told(record)
                continue
            try:
                self._take_ours(record)
            except (msgspec.DecodeError, ValueError, KeyError, TypeError) as error:
                ref = str(RecordRef.of(record))
                raise ReplayError(
                    f"{ref} is not as a worker writes it ({error}): who else writes there?"
                ) from None

    def _take_ours(self, record: InputRecord) -> None:
        if record.topic == self._journal:
            self._take_entry(record)
        elif record.topic == self._catalogue:
            self._take_version(record)
        elif record.topic == self._dead_letters:
            letter = _letter.decode(record.value or b"")
            ref = str(RecordRef.of(letter))
            found = RecordedDeadLetter(letter.reason, letter.timestamp, record.offset)
            self._history.letters.setdefault(ref, []).append(found)
        else:
            self._take_event(record)

    def finish(self) -> History:
        """Everything is read: each merchant has its own."""
        history = self._history
        positions = history.positions
        places: dict[str, list[tuple[Place, str]]] = defaultdict(list)
        for merchant_id, place, entry in self._entries:
            self._of(merchant_id).entries.append(entry)
            places[merchant_id].append((place, entry.ref))
        for merchant_id, by_topic in self._inputs.items():
            recorded = self._of(merchant_id)
            for topic, found in by_topic.items():
                frozen = self._frozen.get(topic, 0)
                done = [
                    one for one in found if one.offset < frozen and not self._was_skipped(one.ref)
                ]
                history.waiting += [one for one in found if one.offset >= positions.get(topic, 0)]
                if any(frozen <= one.offset < positions.get(topic, 0) for one in found):
                    history.moving.add(merchant_id)
                recorded.inputs += done
                at = self._order.places(topic, ((one.offset, one.timestamp) for one in done))
                refs = (one.ref for one in done)
                for place, ref in zip(at, refs, strict=True):
                    places[merchant_id].append((place, ref))
                    if self._order.rules_of(place) < RULES:
                        recorded.older_rules.append(ref)
        versions = self._known_versions()
        reminded = min(self._reminded).isoformat() if self._reminded else None
        for merchant_id, recorded in history.merchants.items():
            recorded.reminded_from = reminded
            recorded.events.sort(key=lambda event: event.sequence)
            placed = sorted(places[merchant_id])
            recorded.order = [ref for _, ref in placed]
            recorded.versions = [
                KnownVersion(bisect_left(placed, (place, "")), version)
                for place, version in versions
            ]
            recorded.unproved = unproved(place for place, _ in places[merchant_id])
            for one in recorded.inputs:
                if one.ref in history.letters:
                    recorded.letters[one.ref] = history.letters[one.ref]
        history.moving &= history.merchants.keys()
        return history

    def _take_told(self, record: InputRecord) -> None:
        """Take a command of an operator; of one that cannot be read, no lane took a version."""
        try:
            command = schemas.decode(topics.OPERATOR_COMMANDS, record, BYTES_MAX).payload
        except InvalidRecord:
            return
        if isinstance(command, AdoptCatalogue):
            self._versions.append((record.offset, record.timestamp, command.set))
        elif isinstance(command, BY_OPERATORS):
            self._take_input(topics.OPERATOR_COMMANDS, record)

    def _take_version(self, record: InputRecord) -> None:
        found = _catalogue_record(record.value or b"")
        ref = RecordRef.parse_or_none(found.command) if isinstance(found, SetVersion) else None
        if ref is not None and isinstance(found, SetVersion):
            self._versions.append((ref.offset, int(found.set_at.timestamp() * 1000), found))

    def _known_versions(self) -> list[tuple[Place, dict[str, Any]]]:
        """The versions that the partition knew, each with the place from which on."""
        topic, partition = self._operator_commands, self._history.partition
        taken = sorted(
            (
                one
                for one in self._versions
                if str(RecordRef(topic, partition, one[0])) not in self._history.letters
            ),
            key=lambda one: one[0],
        )
        places = self._order.places(topic, ((offset, at) for offset, at, _ in taken))
        return [
            (place, msgspec.to_builtins(version))
            for place, (_, _, version) in zip(places, taken, strict=True)
        ]

    def _take_position(self, key: bytes, value: bytes | None) -> None:
        if key.startswith(POSITION_PREFIX) and value is not None:
            self._history.positions[key.removeprefix(POSITION_PREFIX).decode()] = int(value)

    def _take_input(self, base: str, record: InputRecord) -> None:
        merchant_id = merchant_of(record.value)
        if merchant_id is None:
            if record.offset < self._frozen.get(record.topic, 0):
                ref = str(RecordRef.of(record))
                self._history.nameless.append(ref)
            return
        if not self._wanted(merchant_id):
            return
        if partition_of(merchant_id, self._partitions) != self._history.partition:
            # The lane sent a copy to the right partition, which is read there.
            return
        self._inputs[merchant_id][record.topic].append(
            Input(
                base=base,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                timestamp=record.timestamp,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
            )
        )

    def _take_entry(self, record: InputRecord) -> None:
        value = record.value or b""
        place = self._order.take(msgspec.json.decode(value), record.offset)
        # An order is of no merchant.
        merchant_id = (record.key or b"").decode()
        if merchant_id and self._wanted(merchant_id):
            entry = Entry(str(RecordRef.of(record)), value)
            self._entries.append((merchant_id, place, entry))

    def _take_event(self, record: InputRecord) -> None:
        merchant_id = (record.key or b"").decode()
        if record.topic in self._of_trials:
            self._reminded.append(datetime.fromisoformat(event_of(record).at))
        if self._wanted(merchant_id):
            self._of(merchant_id).events.append(event_of(record))

    def _was_skipped(self, ref: str) -> bool:
        """Whether an operator had the lane pass over this record."""
        letters = self._history.letters.get(ref, ())
        return any(letter.reason.startswith(f"{SKIPPED}: ") for letter in letters)

    def _wanted(self, merchant_id: str) -> bool:
        return self._only is None or merchant_id == self._only

    def _of(self, merchant_id: str) -> Recorded:
        found = self._history.merchants.get(merchant_id)
        if found is None:
            found = self._history.merchants[merchant_id] = Recorded(
                merchant_id=merchant_id, inputs=[], entries=[], events=[], letters={}, rows=[]
            )
        return found


def merchant_of(value: bytes | None) -> str | None:
    """The merchant that an input record names, or None; whether the rest of it is good or not."""
    try:
        named = _payload.decode(schemas.payload_of(value or b"")).merchant_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(named, str) and _uuid.match(named) is not None:
        return named.lower()
    return None


def event_of(record: InputRecord) -> RecordedEvent:
    """A published event. Billing wrote value and headers, so they can be read."""
    headers = dict(record.headers)
    ref = str(RecordRef.of(record))
    sequence = int(headers.get("sequence") or b"0")
    return parse_event(record.value or b"", sequence, (headers.get("cause") or b"").decode(), ref)


def _row(table: str, record: InputRecord) -> dict[str, Any] | None:
    try:
        value = upcast(table, record)
        return None if value is None else msgspec.json.decode(value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableRow(*RecordRef.of(record), error) from error


def _owner(table: str, key: str, value: dict[str, Any] | None) -> str | None:
    if table == topics.BILLING_RECORDS:
        return key
    if table == topics.IDEMPOTENCY_KEYS:
        return key.partition("/")[0]
    return value["merchant_id"] if value is not None else None
