"""One partition of the billing on a log in memory: records in, crashes, restarts."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from billing_stream.domain.policy import Policy
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.partition_inputs import Batch
from billing_stream.engine.poison import PoisonLimits
from billing_stream.processor import BillingLane, BillingLanes, BillingProcessor
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.memory_log import MemoryLog, MemoryWriter

START = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = Topics("app")


@dataclass
class Record:
    """An input record as the Kafka client gives it."""

    topic: str
    offset: int
    value: bytes | None
    key: bytes | None = b"key"
    timestamp: int = int(START.timestamp() * 1000)
    partition: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()


def record(topic: str, offset: int, value: Any, **fields: Any) -> Record:
    """A record whose value is JSON, or the bytes (or None) given."""
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return Record(topic, offset, raw, **fields)


@dataclass
class Deaths:
    """Takes the place of the end of the process."""

    causes: list[tuple[str, BaseException | None]] = field(default_factory=list)

    def __call__(self, why: str, error: BaseException | None) -> None:
        """Note the cause; the lane's task ends after it."""
        self.causes.append((why, error))


def takes_nothing(lane: BillingLane) -> bool:
    """Whether all records that it was given are committed."""
    return not lane.records_waiting and lane._idle.is_set()


async def until_committed(lane: BillingLane) -> None:
    """Wait until `takes_nothing`."""
    while not takes_nothing(lane):  # noqa: ASYNC110 - a lane has no event for it
        await asyncio.sleep(0)


class Partition:
    """Partition 0 of one, owned by the latest `restart`."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.log = MemoryLog({table: TOPICS.changelog(table) for table in names.TABLES})
        self.policy = policy or Policy()
        self.now = START
        self.clock: Callable[[], datetime] | None = None
        self.deaths = Deaths()
        self.poison = PoisonLimits()
        self.lanes: BillingLanes
        self.lane: BillingLane

    async def restart(self) -> "Partition":
        """A new worker: fence, restore, start."""
        self.lanes = Lanes(
            self.log,
            partial(
                BillingProcessor,
                partitions=1,
                policy=self.policy,
                names=TOPICS,
                max_record_bytes=100_000,
            ),
            positions_topic=TOPICS.changelog(names.BILLING_RECORDS),
            partitions=1,
            clock=self.clock or (lambda: self.now),
            commit_interval=0.0,
            on_failure=self.deaths,
            poison=self.poison,
            stoppable=TOPICS.stoppable(),
            commands=names.OPERATOR_COMMANDS,
        )
        restored = await self.lanes.restore([0])
        self.lanes.adopt(restored)
        self.lanes.next_epoch()
        self.lanes.start()
        self.lane = restored[0]
        return self

    @property
    def writer(self) -> MemoryWriter:
        """What the current owner writes with."""
        found = self.lanes.scheduler.writer
        assert isinstance(found, MemoryWriter)
        return found

    @property
    def processor(self) -> BillingProcessor:
        """The state of the current owner."""
        assert isinstance(self.lane.processor, BillingProcessor)
        return self.lane.processor

    async def feed(self, *records: Record, start: int | None = None) -> None:
        """Deliver records of one partition and wait until they are committed, or the lane died."""
        topic, (_, name) = (
            records[0].topic,
            self.lanes.input(records[0].topic, records[0].partition),
        )
        begin = self.lane.positions.get(name, 0) if start is None else start
        self.lane.put(Batch(topic, list(records), begin, self.lanes.epoch, name))
        for _ in range(200):
            await asyncio.sleep(0)
            if takes_nothing(self.lane) or self.deaths.causes:
                return
        raise AssertionError("the batch was neither committed nor refused")

    def at(self, **later: float) -> int:
        """A record timestamp so much later than the start, ms since the epoch."""
        return int((START + timedelta(**later)).timestamp() * 1000)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The published events of one kind."""
        return [json.loads(r.value or b"") for r in self.log.read(names.event_type(kind))]

    def dead_letters(self) -> list[dict[str, Any]]:
        """The dead letters."""
        return [json.loads(r.value or b"") for r in self.log.read(names.DEAD_LETTERS)]

    def journal(self) -> list[dict[str, Any]]:
        """The entries of the journal."""
        return [record for record in self._journal() if "command" in record]

    def orders(self) -> list[dict[str, Any]]:
        """The orders of transactions in the journal."""
        return [record for record in self._journal() if "command" not in record]

    def _journal(self) -> list[dict[str, Any]]:
        return [json.loads(r.value or b"") for r in self.log.read(names.JOURNAL)]

    def rows(self) -> dict[str, Any]:
        """All rows, comparable with those of another owner."""
        rows = self.processor.rows
        return {
            "merchants": dict(rows.merchants),
            "purchases": dict(rows.purchases),
            "answers": {m: dict(a) for m, a in rows.stored_responses.items()},
            "shops": dict(rows.shops),
            "positions": dict(self.lane.positions),
        }
