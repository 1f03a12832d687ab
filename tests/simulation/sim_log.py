"""A log as Kafka keeps it: offsets, open transactions, markers, fencing, compaction.

A transaction's records stand in the log from the moment they are sent, are read once it has
committed, and take up offsets for ever also when it was aborted; so does each marker.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from billing_stream.engine.log import Fenced, OnRows, OnTotal
from billing_stream.engine.points import Point
from billing_stream.engine.processor import Outgoing
from tests.simulation.process import Process

Place = tuple[str, int]
"""A topic's partition."""


class State(Enum):
    """Where a transaction stands."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(slots=True)
class Txn:
    """One transaction of one partition's writer; `done` is what it was made of."""

    partition: int
    generation: int
    who: str
    done: Sequence[Any]
    # All that it is to hold, in the order of the decisions; sent is topic by topic.
    wanted: Sequence[Outgoing] = ()
    state: State = State.OPEN
    # Among the committed: of all, and of this partition.
    number: int = -1
    records: list[tuple[Place, Outgoing]] = field(default_factory=list)
    firsts: dict[Place, int] = field(default_factory=dict)


@dataclass(slots=True)
class Entry:
    """A record as a consumer gets it, or a marker (then `control`)."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    txn: Txn | None = None
    control: bool = False
    # What the producer meant by it: for the audit, never for the engine.
    meaning: Any = None

    @property
    def visible(self) -> bool:
        """Whether a reader of what is committed gets it."""
        return not self.control and (self.txn is None or self.txn.state is State.COMMITTED)


class SimLog:
    """Topics as lists of entries. `clock` gives the broker's time in ms."""

    def __init__(self, changelogs: Mapping[str, str], clock: Callable[[], int]) -> None:
        self.tables = {topic: table for table, topic in changelogs.items()}
        self.topics: dict[Place, list[Entry]] = {}
        self.ends: dict[Place, int] = {}
        self.generations: dict[int, int] = {}
        self.open: list[Txn] = []
        self.history: list[Txn] = []
        self.commits: dict[int, int] = {}
        self.rows: set[tuple[str, bytes | None, bytes | None]] = set()
        self.clock = clock
        self.on_commit: Callable[[Txn], object] = lambda _: None

    def produce(self, place: Place, value: bytes | None, **fields: Any) -> Entry:
        """Write a record outside any transaction."""
        return self._append(place, value=value, **fields)

    def begin(
        self,
        partition: int,
        generation: int,
        who: str,
        done: Sequence[Any],
        wanted: Sequence[Outgoing],
    ) -> Txn:
        """Open a transaction."""
        self._require_owner(partition, generation)
        txn = Txn(partition, generation, who, done, wanted)
        self.open.append(txn)
        return txn

    def send(self, txn: Txn, records: Iterable[tuple[Place, Outgoing]]) -> None:
        """Append records to an open transaction."""
        self._require_open(txn)
        for place, record in records:
            entry = self._append(
                place, key=record.key, value=record.value, headers=record.headers, txn=txn
            )
            txn.firsts.setdefault(place, entry.offset)
            txn.records.append((place, record))

    def commit(self, txn: Txn) -> None:
        """Make a transaction visible."""
        self._require_open(txn)
        txn.number = len(self.history)
        self.history.append(txn)
        self.commits[txn.partition] = self.commits.get(txn.partition, 0) + 1
        for (topic, _), record in txn.records:
            if topic in self.tables:
                self.rows.add((topic, record.key, record.value))
        self._end(txn, State.COMMITTED)
        self.on_commit(txn)

    def fence(self, partition: int) -> int:
        """Begin a generation; what the one before left open is aborted."""
        old = self.generations.get(partition, 0)
        for txn in [txn for txn in self.open if txn.partition == partition]:
            self._end(txn, State.ABORTED)
        self.generations[partition] = old + 1
        return old + 1

    def visible(self, place: Place, start: int = 0) -> list[Entry]:
        """The committed entries from `start` up to the first open transaction."""
        last = self.last_stable(place)
        return [e for e in self.topics.get(place, ()) if start <= e.offset < last and e.visible]

    def last_stable(self, place: Place) -> int:
        """The offset up to which every transaction has ended."""
        firsts = (txn.firsts[place] for txn in self.open if place in txn.firsts)
        return min(firsts, default=self.ends.get(place, 0))

    def compact(self, place: Place) -> None:
        """Keep the last committed record of each key, and tombstones no longer."""
        last = {entry.key: entry for entry in self.visible(place)}
        stable = self.last_stable(place)
        self.topics[place] = [
            entry
            for entry in self.topics.get(place, ())
            if entry.offset >= stable or (last.get(entry.key) is entry and entry.value is not None)
        ]

    def _append(self, place: Place, **fields: Any) -> Entry:
        offset = self.ends.get(place, 0)
        self.ends[place] = offset + 1
        entry = Entry(*place, offset, self.clock(), **fields)
        self.topics.setdefault(place, []).append(entry)
        return entry

    def _end(self, txn: Txn, state: State) -> None:
        txn.state = state
        self.open.remove(txn)
        for place in txn.firsts:
            self._append(place, control=True)

    def _require_owner(self, partition: int, generation: int) -> None:
        if self.generations.get(partition) != generation:
            raise Fenced(f"generation {generation} of partition {partition} is over")

    def _require_open(self, txn: Txn) -> None:
        self._require_owner(txn.partition, txn.generation)
        if txn.state is not State.OPEN:
            raise Fenced("the transaction timed out")


class SimWriter:
    """Writes one partition's transactions for a process that may stop anywhere in them."""

    def __init__(self, log: SimLog, process: Process, partition: int, generation: int) -> None:
        self._log = log
        self._process = process
        self._partition = partition
        self.generation = generation

    async def commit(self, records: Sequence[Outgoing]) -> None:
        """Send the records, half of them first, and commit."""
        process = self._process
        done = process.staged
        await process.gate(Point.STAGED)
        txn = self._log.begin(self._partition, self.generation, process.name, done, records)
        groups: dict[Place, list[tuple[Place, Outgoing]]] = {}
        for record in records:
            partition = self._partition if record.partition is None else record.partition
            place = (record.topic, partition)
            groups.setdefault(place, []).append((place, record))
        half = len(groups) // 2
        for number, group in enumerate(groups.values()):
            if number == half and number > 0:
                await self._pass(Point.HALF_SENT)
            self._log.send(txn, group)
        await self._pass(Point.SENT)
        self._log.commit(txn)
        await process.gate(Point.COMMITTED)

    async def _pass(self, point: Point) -> None:
        self._process.reach(point)
        await self._process.gate(point)

    async def close(self) -> None:
        """Nothing to close."""


class SimClient:
    """The log as one process reaches it. See `engine.log.Log`."""

    protocol = 0

    def __init__(self, log: SimLog, process: Process) -> None:
        self._log = log
        self._process = process

    async def fence(self, partition: int) -> SimWriter:
        """Become the owner."""
        await self._process.gate(None)
        generation = self._log.fence(partition)
        return SimWriter(self._log, self._process, partition, generation)

    async def restore(
        self, partitions: Sequence[int], on_rows: OnRows, on_total: OnTotal | None = None
    ) -> int:
        """Read all changelogs of these partitions to their ends."""
        await self._process.gate(Point.FENCED)
        count = 0
        for topic, table in self._log.tables.items():
            for partition in partitions:
                for entry in self._log.visible((topic, partition)):
                    on_rows(partition, table, [(entry.key or b"", entry.value)])
                    count += 1
        await self._process.gate(Point.RECOVERING)
        return count
