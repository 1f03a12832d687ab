"""Real lanes on a log in memory, fed in any order; and copies of that log, to be verified."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from billing_stream.audit.verify.log_records import duration_us
from billing_stream.audit.verify.model_state import Rules
from billing_stream.audit.verify.verifier import verify_source
from billing_stream.audit.verify.verify_report import Report
from billing_stream.domain.commands import Command
from billing_stream.domain.policy import Policy
from billing_stream.engine.lane import Lane
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.partition_inputs import Batch
from billing_stream.engine.partition_processor import Outgoing, Request
from billing_stream.engine.partitioner import partition_of
from billing_stream.engine.poison import PoisonLimits
from billing_stream.processor import BillingProcessor
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.catalogue import CATALOGUE
from tests.support.memory_log import MemoryLog
from tests.support.partition import Deaths

START = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = Topics("app", "x.")
PARTITIONS = 2
TRIAL, EXPIRY, REMINDER = (timedelta(hours=hours) for hours in (5, 2, 3))
POLICY = Policy(
    trial_duration=TRIAL,
    trial_reminder=REMINDER,
    purchase_expiry=EXPIRY,
    former_shops_max=1,
    test_clock=True,
)
RULES = Rules(
    duration_us(TRIAL),
    duration_us(EXPIRY),
    100_000,
    former_max=1,
    test_clock=True,
    reminder_us=duration_us(REMINDER),
    catalogue=CATALOGUE,
)
Key = tuple[str, int]


@dataclass
class Stored:
    """A record of a log."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()

    @property
    def data(self) -> Any:
        """The value as JSON."""
        return json.loads(self.value or b"null")

    def put(self, data: Any) -> None:
        """Another value."""
        self.value = json.dumps(data).encode()


@dataclass
class Copy:
    """A copy of a log: what the verifier reads, and where faults are seeded."""

    logs: dict[Key, list[Stored]] = field(default_factory=dict)
    late: list[tuple[str, int]] = field(default_factory=list)

    async def read(self, topics: Sequence[str]) -> AsyncIterator[Sequence[Stored]]:
        """As `Source.read`."""
        for (topic, _), records in self.logs.items():
            if topic in topics and records:
                yield records

    def begins_late(self) -> Sequence[tuple[str, int]]:
        """As `Source.begins_late`."""
        return self.late

    def of(self, topic: str) -> list[Stored]:
        """All records of a topic (name without prefix, or of a changelog)."""
        return [r for (name, _), log in self.logs.items() if name == topic for r in log]

    def events(self, kind: str) -> list[Stored]:
        """All events of a kind."""
        return self.of(TOPICS.name(names.event_type(kind)))

    def entries(self) -> list[Stored]:
        """All entries of the journal, the orders of transactions left out."""
        return [r for r in self.of(TOPICS.name(names.JOURNAL)) if "command" in r.data]

    def orders(self) -> list[Stored]:
        """The orders of transactions in the journal."""
        return [r for r in self.of(TOPICS.name(names.JOURNAL)) if "command" not in r.data]

    def rows(self, table: str) -> list[Stored]:
        """All rows of a changelog, positions left out."""
        found = self.of(TOPICS.changelog(table))
        return [row for row in found if not (row.key or b"").startswith(b"\0")]

    def drop(self, record: Stored) -> None:
        """Take a record out of its log."""
        self.logs[record.topic, record.partition].remove(record)

    def add(self, record: Stored, **changes: Any) -> Stored:
        """Put a copy of a record, changed, at the end of its log."""
        fields = {**record.__dict__, **changes}
        log = self.logs.setdefault((fields["topic"], fields["partition"]), [])
        fields["offset"] = log[-1].offset + 1 if log else 0
        log.append(Stored(**fields))
        return log[-1]

    def compact(self) -> None:
        """Leave only the last record of each key of the changelogs."""
        for (topic, _), log in self.logs.items():
            if topic.endswith("-changelog"):
                last = {record.key: record.offset for record in log}
                log[:] = [record for record in log if last[record.key] == record.offset]

    async def verify(self, **options: Any) -> Report:
        """Verify it."""
        return await verify_source(self, TOPICS, PARTITIONS, RULES, **options)


class World:
    """All partitions of one app. Time stands still unless it is told to go on."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.policy = policy
        self.log = MemoryLog({table: TOPICS.changelog(table) for table in names.TABLES})
        self.now = START
        self.deaths = Deaths()
        self.times: dict[tuple[str, int, int], int] = {}
        self.lanes: Lanes[Any]
        self.count = 0
        self.poison = PoisonLimits()

    async def restart(self) -> "World":
        """New owners of all partitions."""
        self.lanes = Lanes(
            self.log,
            partial(
                BillingProcessor,
                partitions=PARTITIONS,
                policy=self.policy,
                names=TOPICS,
                max_record_bytes=100_000,
            ),
            positions_topic=TOPICS.changelog(names.BILLING_RECORDS),
            clock=lambda: self.now,
            commit_interval=0.0,
            on_failure=self.deaths,
            poison=self.poison,
            stoppable=TOPICS.stoppable(),
        )
        self.lanes.adopt(await self.lanes.restore(range(PARTITIONS)))
        self.lanes.next_epoch()
        self.lanes.start()
        return self

    async def stop(self) -> None:
        """End the lanes; a new owner may come."""
        await self.lanes.drop(list(self.lanes))

    def send(
        self,
        topic: str,
        value: Any,
        *,
        merchant: str = "",
        wrong: bool = False,
        **headers: str | None,
    ) -> tuple[str, int, int]:
        """Append an input record; where it is. `wrong`: on another partition."""
        raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
        if not merchant and isinstance(value, dict):
            merchant = str(value.get("merchant_id") or value.get("data", {}).get("merchant_id"))
        partition = (partition_of(merchant, PARTITIONS) + wrong) % PARTITIONS
        pairs = [(name, None if text is None else text.encode()) for name, text in headers.items()]
        name = TOPICS.name(topic)
        record = Outgoing(name, merchant.encode(), raw, headers=pairs)
        ref = (name, partition, self.log.append(name, partition, record))
        self.times[ref] = int(self.now.timestamp() * 1000)
        return ref

    def command(self, merchant: str, name: str, **fields: Any) -> str:
        """Send a command; its id."""
        value = {"command": name, "merchant_id": merchant, **fields}
        topic, partition, offset = self.send(names.COMMANDS, value)
        return f"{topic}[{partition}]@{offset}"

    def unread(self) -> list[tuple[Key, int]]:
        """Input partitions with records that their lane has not read, and from where on."""
        found = []
        for topic in TOPICS.inputs():
            for partition, lane in self.lanes.items():
                position = lane.positions.get(topic, 0)
                if position < len(self.log.topics.get((topic, partition), ())):
                    found.append(((topic, partition), position))
        return found

    def _batch(self, key: Key, start: int, count: int) -> Batch:
        topic, partition = key
        records: list[Any] = []
        for offset, sent in enumerate(self.log.topics[key][start : start + count], start):
            time = self.times.setdefault(
                (topic, partition, offset), int(self.now.timestamp() * 1000)
            )
            fields = (topic, partition, offset, time, sent.key, sent.value, sent.headers)
            records.append(Stored(*fields))
        return Batch(topic, records, start, self.lanes.epoch)

    async def feed(self, key: Key, start: int, count: int) -> None:
        """Have the lane read some records, and wait until they are committed."""
        self.lanes[key[1]].put(self._batch(key, start, count))
        await self.idle()

    async def idle(self) -> None:
        """Wait until the lanes have committed what waits."""
        for _ in range(400):
            await asyncio.sleep(0)
            if self.deaths.causes:
                raise AssertionError(self.deaths.causes)
            if all(self._quiet(lane) for lane in self.lanes.values()):
                return
        raise AssertionError("the lanes do not come to rest")

    @staticmethod
    def _quiet(lane: Lane[Any]) -> bool:
        return lane.is_idle and not lane._due and not lane._wake.is_set()

    async def feed_all(self) -> None:
        """Have everything read, also what is forwarded on the way."""
        while unread := self.unread():
            for key, start in unread:
                await self.feed(key, start, 1000)

    async def ask(self, command: Command, origin: str = "http") -> Any:
        """A command that comes from no topic; its answer."""
        self.count += 1
        lane = self.lanes[partition_of(command.merchant_id, PARTITIONS)]
        answer = lane.ask(Request(command, origin, f"correlation-{self.count}"))
        await self.idle()
        return (await answer).reply

    async def tick(self) -> None:
        """The timers look what is due."""
        for lane in self.lanes.values():
            lane.wake_if_due()
        await self.idle()

    def pass_time(self, **time: float) -> None:
        """Let the clock go on."""
        self.now += timedelta(**time)

    def copy(self) -> Copy:
        """The log as it is."""
        copy = Copy()
        topics = [topic.name for topic in TOPICS.all()]
        for (topic, partition), records in self.log.topics.items():
            assert topic in topics
            copy.logs[topic, partition] = [
                Stored(
                    topic,
                    partition,
                    offset,
                    self.times.get((topic, partition, offset), 0),
                    sent.key,
                    sent.value,
                    list(sent.headers),
                )
                for offset, sent in enumerate(records)
            ]
        return copy


def merchant_id(number: int) -> str:
    """A merchant's id; even and odd ones need not be on different partitions."""
    return str(uuid.UUID(int=0x4000_8000_0000_0000_0000 + number * 0x1_0001_0000))
