"""A log in memory that obeys the same suite as Kafka: fencing, atomic commits, restore."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from billing_stream.engine.log import MEMBERS_KEY, Fenced, OnRows, OnTotal, Part
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.engine.restored_rows import restore_rows
from billing_stream.kafka.topic_logs import ChangelogIds
from billing_stream.kafka.transaction_offsets import Member
from billing_stream.records.schemas import Headers
from billing_stream.records.upcasting.versions import WRITTEN


class Crash(Exception):
    """The process would have ended here."""


@dataclass
class Read:
    """A record as it is read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class MemoryWriter:
    """One owner of partitions; void of each as soon as another one has joined with it."""

    def __init__(self, log: "MemoryLog", generation: int) -> None:
        self._log = log
        self._generation = generation
        self.crash_before_commit = False
        self.crash_after_commit = False

    async def commit(self, parts: Sequence[Part]) -> None:
        """Append all records, or none."""
        for part in parts:
            if self._log.generations[part.partition] != self._generation:
                raise Fenced(f"partition {part.partition} has another owner")
        if self.crash_before_commit:
            raise Crash("before the commit")
        for own, records, _ in parts:
            for record in records:
                partition = own if record.partition is None else record.partition
                self._log.append(record.topic, partition, record)
        if self.crash_after_commit:
            raise Crash("after the commit")

    async def close(self) -> None:
        """Nothing to close."""


class MemoryLog:
    """Topics as lists. `changelogs` maps each table to its changelog topic."""

    protocol = 0
    # Kafka's topics have ids; a test may set them.
    ids: ChangelogIds | None = None

    def __init__(self, changelogs: Mapping[str, str]) -> None:
        self.changelogs = changelogs
        self._tables = {topic: table for table, topic in changelogs.items()}
        self.topics: dict[tuple[str, int], list[Outgoing]] = {}
        self.generations: dict[int, int] = {}
        self._generation = 0

    def append(self, topic: str, partition: int, record: Outgoing) -> int:
        """Write one record; its offset."""
        records = self.topics.setdefault((topic, partition), [])
        records.append(record)
        return len(records) - 1

    def read(self, topic: str) -> list[Outgoing]:
        """All records of a topic, partition by partition."""
        return [
            record
            for (name, _), records in sorted(self.topics.items(), key=lambda item: item[0])
            if name == topic
            for record in records
        ]

    def take_away(self, *partitions: int) -> None:
        """Another worker owns these partitions now."""
        self._generation += 1
        self.generations.update(dict.fromkeys(partitions, self._generation))

    async def join(self, member: Member, partitions: Collection[int]) -> MemoryWriter:
        """Become the owner."""
        self.take_away(*partitions)
        return MemoryWriter(self, self._generation)

    async def end_old_release(self, partition: int) -> None:
        """Write what keeps it from starting."""
        topic = next(iter(self.changelogs.values()))
        self.append(topic, partition, Outgoing(topic, MEMBERS_KEY, b"", WRITTEN))

    async def restore(
        self, partitions: Sequence[int], on_rows: OnRows, on_total: OnTotal | None = None
    ) -> int:
        """Read all changelogs of these partitions."""
        count = 0
        for (topic, partition), records in self.topics.items():
            table = self._tables.get(topic)
            if table is None or partition not in partitions:
                continue
            for offset, record in enumerate(records):
                read = Read(topic, partition, offset, record.key, record.value, record.headers)
                restore_rows(on_rows, partition, table, [read])
                count += 1
        return count
