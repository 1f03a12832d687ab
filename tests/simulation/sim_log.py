"""A log as Kafka keeps it: offsets, open transactions, markers, fencing, compaction.

A transaction's records stand in the log from the moment they are sent, are read once it has
committed, and take up offsets for ever also when it was aborted; so does each marker.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from billing_stream.engine.crash_points import CrashPoint
from billing_stream.engine.log import MEMBERS_KEY, Fenced, OnRows, OnTotal, Part
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.kafka.topic_logs import ChangelogIds
from billing_stream.kafka.transaction_offsets import Member
from billing_stream.records.upcasting.versions import WRITTEN
from tests.simulation.process import ConnectionLost, Fault, Process
from tests.simulation.requests import (
    AddOffsets,
    AddPartitions,
    Combined,
    EndTxn,
    InitProducerId,
    NotMember,
    Produce,
    Producer,
    Refused,
    Request,
    State,
    TopicPartition,
    Txn,
    generation_of,
)

POLL_SECONDS = 0.02

Network = Callable[[Request], Fault]
"""What happens to a request on its way."""


@dataclass(slots=True)
class Entry:
    """A record as a consumer gets it, or a marker (then `control`)."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    txn: Txn | None = None
    control: bool = False
    # What the producer meant by it: for the audit, never for the engine.
    meaning: Any = None

    @property
    def visible(self) -> bool:
        """Whether a reader of what is committed gets it."""
        return not self.control and (self.txn is None or self.txn.state is State.COMMITTED)


class SimLog:
    """Topics as lists of entries. `clock` gives the broker's time in ms.

    `version` is that of transactions, `late` what was sent and has not arrived yet.
    """

    def __init__(
        self, changelogs: Mapping[str, str], clock: Callable[[], int], version: int = 2
    ) -> None:
        self.tables = {topic: table for table, topic in changelogs.items()}
        self.topics: dict[TopicPartition, list[Entry]] = {}
        self.ends: dict[TopicPartition, int] = {}
        self.version = version
        self.producers: defaultdict[str, Producer] = defaultdict(Producer)
        # The consumer group.
        self.generation = 0
        self.members: set[str] = set()
        self.late: list[Request] = []
        self.network: Network = lambda _: Fault.NONE
        self.history: list[Txn] = []
        self.commits: dict[int, int] = {}
        self.rows: set[tuple[str, bytes | None, bytes | None]] = set()
        self.clock = clock
        self.on_commit: Callable[[Txn], object] = lambda _: None

    def produce(self, tp: TopicPartition, value: bytes | None, **fields: Any) -> Entry:
        """Write a record outside any transaction."""
        return self._append(tp, value=value, **fields)

    @property
    def open_transactions(self) -> list[Combined]:
        """The transactions that have not ended."""
        every = (producer.txn for producer in self.producers.values())
        return [txn for txn in every if txn is not None]

    @property
    def open(self) -> list[Txn]:
        """Their parts that have records."""
        every = [part for txn in self.open_transactions for part in txn.parts.values()]
        return [part for part in every if part.records]

    # -- transactions

    def ask(self, request: Request, fault: Fault) -> int:
        """Send a request and repeat it until it is answered; the epoch to continue with.

        Raises Fenced, Refused, and ConnectionLost when its sender gives up.
        """
        if fault in (Fault.LATE, Fault.LOST):
            self.late.append(request)
        if fault is Fault.LOST:
            raise ConnectionLost(request)
        if fault is Fault.REPEATED:
            self.take(request)
        return self.take(request)

    def take(self, request: Request) -> int:
        """A request has arrived; the epoch to continue with. Raises Fenced, Refused, NotMember."""
        producer = self.producers[request.id]
        match request:
            case InitProducerId():
                return self._init(producer, request)
            case AddPartitions():
                producer.require(request.epoch)
                self._begin(producer, request)
                producer.added |= request.tps
            case Produce():
                self._produce(producer, request)
            case AddOffsets():
                self._accept(producer, request)
            case EndTxn():
                return self._commit(producer, request)
        return producer.epoch

    def time_out(self, id: str) -> None:
        """End a transaction that was open for too long, and fence its producer."""
        self.take(InitProducerId(id, None))

    def _init(self, producer: Producer, request: InitProducerId) -> int:
        epoch = request.epoch
        if producer.txn is not None:
            # Kafka does so before it looks at the epoch.
            self._end(producer, State.ABORTED)
            producer.next_epoch()
        if epoch is not None and epoch != producer.epoch:
            if epoch == producer.previous:
                return producer.epoch
            raise Fenced(f"epoch {epoch} is over, it is {producer.epoch}")
        producer.last = None
        return producer.next_epoch(epoch)

    def _begin(self, producer: Producer, request: Request) -> Combined:
        if producer.txn is None:
            producer.txn = Combined(request.id)
        return producer.txn

    def _produce(self, producer: Producer, request: Produce) -> None:
        producer.require(request.epoch)
        if self.version == 2:
            self._begin(producer, request)
            producer.added.add(request.tp)
        txn = producer.txn
        if txn is None or request.tp not in producer.added:
            raise Refused(f"{request.tp} is in no transaction of {request.id}")
        if request.sequence < producer.sequences.get(request.tp, 0):
            return
        producer.sequences[request.tp] = request.sequence + 1
        for plan, record in request.records:
            part = txn.parts.get(plan.partition)
            if part is None:
                part = txn.parts[plan.partition] = replace(plan, records=[], firsts={})
            self._send(part, request.tp, record)

    def _send(self, txn: Txn, tp: TopicPartition, record: Outgoing) -> None:
        entry = self._append(
            tp, key=record.key, value=record.value, headers=record.headers, txn=txn
        )
        txn.firsts.setdefault(tp, entry.offset)
        txn.records.append((tp, record))

    def _accept(self, producer: Producer, request: AddOffsets) -> None:
        """What the group coordinator does."""
        producer.require(request.epoch)
        if request.generation != self.generation or request.member not in self.members:
            raise NotMember(f"{request.member} of generation {request.generation}")
        if self.version == 2:
            self._begin(producer, request)
        if producer.txn is None:
            raise Refused(f"the group is in no transaction of {request.id}")
        producer.txn.accepted |= request.partitions

    def _commit(self, producer: Producer, request: EndTxn) -> int:
        wanted = State.COMMITTED if request.commit else State.ABORTED
        ended = producer.txn is None and producer.last is wanted
        if ended and request.epoch == (producer.epoch - 1 if self.version == 2 else producer.epoch):
            return producer.epoch
        producer.require(request.epoch)
        txn = producer.txn
        if txn is None:
            raise Refused(f"{request.id} has no transaction")
        parts = [part for part in txn.parts.values() if part.records]
        for part in parts if request.commit else ():
            part.number = len(self.history)
            self.history.append(part)
            self.commits[part.partition] = self.commits.get(part.partition, 0) + 1
            for (topic, _), record in part.records:
                if topic in self.tables:
                    self.rows.add((topic, record.key, record.value))
        self._end(producer, wanted)
        if self.version == 2:
            producer.next_epoch()
        for part in parts if request.commit else ():
            self.on_commit(part)
        return producer.epoch

    def _end(self, producer: Producer, state: State) -> None:
        txn = producer.txn
        producer.close(state)
        for part in txn.parts.values() if txn is not None else ():
            part.state = state
            for tp in part.firsts:
                self._append(tp, control=True)

    # -- reading

    def visible(self, tp: TopicPartition, start: int = 0) -> list[Entry]:
        """The committed entries from `start` up to the first open transaction."""
        last = self.last_stable(tp)
        return [e for e in self.topics.get(tp, ()) if start <= e.offset < last and e.visible]

    def last_stable(self, tp: TopicPartition) -> int:
        """The offset up to which every transaction has ended."""
        firsts = (txn.firsts[tp] for txn in self.open if tp in txn.firsts)
        return min(firsts, default=self.ends.get(tp, 0))

    def compact(self, tp: TopicPartition) -> None:
        """Keep the last committed record of each key, and tombstones no longer."""
        last = {entry.key: entry for entry in self.visible(tp)}
        stable = self.last_stable(tp)
        self.topics[tp] = [
            entry
            for entry in self.topics.get(tp, ())
            if entry.offset >= stable or (last.get(entry.key) is entry and entry.value is not None)
        ]

    def _append(self, tp: TopicPartition, **fields: Any) -> Entry:
        offset = self.ends.get(tp, 0)
        self.ends[tp] = offset + 1
        entry = Entry(*tp, offset, self.clock(), **fields)
        self.topics.setdefault(tp, []).append(entry)
        return entry


class SimWriter:
    """Writes transactions for a process that may stop anywhere in them. `epochs` by id."""

    def __init__(
        self, log: SimLog, process: Process, member: Member, epochs: Mapping[str, int]
    ) -> None:
        self._log = log
        self._process = process
        self._member = member
        self._turns = [SimProducer(log, process, member, *one) for one in epochs.items()]
        self._free: asyncio.Queue[SimProducer] = asyncio.Queue()
        for turn in self._turns:
            self._free.put_nowait(turn)

    async def commit(self, parts: Sequence[Part]) -> None:
        """Send the records, half of them first, and commit."""
        process, generation = self._process, self._member.generation
        plans = [
            Txn(p.partition, generation, process.name, process.staged[p.partition], p.records)
            for p in parts
        ]
        producer = await self._free.get()
        try:
            await producer.commit(plans)
        finally:
            self._free.put_nowait(producer)

    async def close(self) -> None:
        """Nothing to close."""


class SimProducer:
    """One of the producers of a writer."""

    def __init__(self, log: SimLog, process: Process, member: Member, id: str, epoch: int) -> None:
        self._log = log
        self._process = process
        self._member = member
        self._id = id
        self._epoch = epoch
        self._sequences: dict[TopicPartition, int] = {}
        # Whether a request had to be repeated, so that its first copy may still arrive.
        self._unanswered = False

    async def commit(self, plans: Sequence[Txn]) -> None:
        """Write these parts as one transaction."""
        process = self._process
        await process.gate(CrashPoint.STAGED)
        if self._unanswered and self._log.version == 1:
            await self._reinitialise()
        groups: dict[TopicPartition, list[tuple[Txn, Outgoing]]] = {}
        for plan in plans:
            for record in plan.wanted:
                partition = plan.partition if record.partition is None else record.partition
                groups.setdefault((record.topic, partition), []).append((plan, record))
        if self._log.version == 1:
            self._ask(AddPartitions(self._id, self._epoch, frozenset(groups)))
        half = len(groups) // 2
        for number, (tp, group) in enumerate(groups.items()):
            if number == half and number > 0:
                await self._pass(CrashPoint.HALF_SENT)
            sequence = self._sequences.get(tp, 0)
            self._ask(Produce(self._id, self._epoch, tp, group, sequence))
            self._sequences[tp] = sequence + 1
        await self._pass(CrashPoint.SENT)
        await self._add_offsets(frozenset(plan.partition for plan in plans))
        await self._pass(CrashPoint.ACCEPTED)
        self._continue_with(self._ask(EndTxn(self._id, self._epoch)))
        await process.gate(CrashPoint.COMMITTED)

    async def _add_offsets(self, partitions: frozenset[int]) -> None:
        member = self._member.member_id, self._member.generation
        try:
            self._ask(AddOffsets(self._id, self._epoch, *member, partitions))
        except NotMember as error:
            await self._process.gate(None)
            self._continue_with(self._ask(EndTxn(self._id, self._epoch, commit=False)))
            raise Fenced(str(error)) from error

    async def _reinitialise(self) -> None:
        """Take another epoch, in which nothing that was sent before can do anything."""
        await self._process.gate(None)
        self._unanswered = False
        self._continue_with(self._ask(InitProducerId(self._id, self._epoch)))

    def _ask(self, request: Request) -> int:
        fault = self._log.network(request)
        self._unanswered = self._unanswered or fault is not Fault.NONE
        return self._log.ask(request, fault)

    def _continue_with(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            self._sequences = {}

    async def _pass(self, point: CrashPoint) -> None:
        self._process.crash_hook(point)
        await self._process.gate(point)


class SimClient:
    """The log as one process reaches it. See `engine.log.Log`."""

    protocol = 0
    changelogs: Mapping[str, str]
    ids: ChangelogIds | None = None

    def __init__(self, log: SimLog, process: Process) -> None:
        self._log = log
        self.changelogs = {table: topic for topic, table in log.tables.items()}
        self._process = process

    async def join(self, member: Member, partitions: Collection[int]) -> SimWriter:
        """Write as this member; what earlier ones had open has ended."""
        await self._process.gate(None)
        ids = [f"{member.generation}.{self._process.worker}.{turn}" for turn in range(2)]
        epochs = {id: self._ask(InitProducerId(id, None)) for id in ids}
        self._process.crash_hook(CrashPoint.JOINED)
        await self._process.gate(CrashPoint.JOINED)
        self._end_earlier(member)
        while self._undecided(member, partitions):
            await asyncio.sleep(POLL_SECONDS)
            await self._process.gate(None)
            self._end_earlier(member)
        return SimWriter(self._log, self._process, member, epochs)

    def _end_earlier(self, member: Member) -> None:
        for txn in self._log.open_transactions:
            if generation_of(txn.id) < member.generation:
                self._ask(InitProducerId(txn.id, None))

    def _undecided(self, member: Member, partitions: Collection[int]) -> bool:
        """Whether offsets of these partitions are accepted and not committed."""
        return any(txn.accepted & set(partitions) for txn in self._log.open_transactions)

    async def end_old_release(self, partition: int) -> None:
        """There is none; what keeps it from starting is written."""
        topic = next(iter(self._log.tables))
        self._log.produce((topic, partition), b"", key=MEMBERS_KEY, headers=WRITTEN)
        await self._process.gate(None)

    async def restore(
        self, partitions: Sequence[int], on_rows: OnRows, on_total: OnTotal | None = None
    ) -> int:
        """Read all changelogs of these partitions to their ends."""
        await self._process.gate(CrashPoint.FENCED)
        count = 0
        for topic, table in self._log.tables.items():
            for partition in partitions:
                tp = topic, partition
                while self._log.last_stable(tp) < self._log.ends.get(tp, 0):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
                for entry in self._log.visible(tp):
                    on_rows(partition, table, [(entry.key or b"", entry.value)])
                    count += 1
        await self._process.gate(CrashPoint.RECOVERING)
        return count

    def _ask(self, request: Request) -> int:
        return self._log.ask(request, self._log.network(request))
