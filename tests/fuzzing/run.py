"""Sends batches of every shape to a worker, and holds what it made of them against what it must.

A record that the broker has taken is processed, or a dead letter once; of most it is known which.
What the broker refuses is counted, no more: nobody ever reads it.
"""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.topics import Topics
from tests.dead_letters.stage import PARTITIONS, Stage, stage
from tests.fuzzing.values import OF_OURS, OF_PRODUCERS, Content, Fate, content
from tests.fuzzing.wire import Batch, wire
from tests.support.audit import read_committed
from tests.support.raw_batches import RawProducer
from tests.support.worker import run

RECORDS_MAX = 40
PROGRESS_SECONDS = 5.0
SETTLED_SECONDS = 20.0
UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# The rest has the broker's time: this one takes what a producer says.
PRODUCERS_TIME = names.PURCHASE_UPDATED


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a record has to become, its new merchant, and every id in it."""

    fate: Fate
    merchant: str
    named: tuple[str, ...]


@dataclass
class Sent:
    """What the broker has taken, by its reference; how many batches it has refused, by error."""

    awaited: dict[str, Awaited] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    bombs: list[list[str]] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    records: int = 0

    def add(self, first: RecordRef, batch: Batch) -> None:
        """A batch that was taken."""
        count = len(batch.contents) + batch.bomb
        refs = [f"{first.topic}[{first.partition}]@{first.offset + n}" for n in range(count)]
        self.records += count
        if batch.bomb:
            self.bombs.append(refs)
        elif batch.damaged:
            self.damaged.update(refs)
        else:
            self.awaited.update(zip(refs, map(_awaited, batch.contents), strict=True))


def _awaited(content: Content) -> Awaited:
    named = UUID.findall(content.value or b"") if content.fate is Fate.EITHER else ()
    return Awaited(content.fate, content.merchant, tuple(id_.decode().lower() for id_ in named))


@dataclass
class Result:
    """What became of it: how many of each fate, and what is wrong."""

    sent: Sent
    letters: int
    processed: int
    problems: list[str]

    def __str__(self) -> str:
        refused = sum(self.sent.refused.values())
        return (
            f"{self.sent.records:,} records taken by the broker ({refused:,} batches refused: "
            f"{dict(self.sent.refused)}), {self.letters:,} dead letters, "
            f"{self.processed:,} merchants created, {len(self.sent.bombs)} bombs, "
            f"{len(self.sent.damaged):,} records of damaged batches; "
            f"{len(self.problems)} problems"
        )


async def fuzz(
    kafka: str,
    prefix: str,
    folder: Path,
    *,
    records: int,
    seed: int,
    progress: Callable[[str], None] = lambda text: None,
) -> Result:
    """Send so many records; what became of them, once the worker has read them all."""
    async with stage(kafka, prefix, folder) as at:
        await _take_producers_time(at)
        sent = Sent()
        async with RawProducer(kafka).open() as producer, _watching(at):
            rng = random.Random(seed)
            sender = _Sender(at.topics, producer, rng, sent, progress)
            await sender.send(records * 4 // 5, OF_PRODUCERS)
            await _read_up(at, progress)
            problems = await _commands(at, ["verify", "--allow-lag"], ["replay"], ["dlq", "list"])
            # Whoever has our rights can write what no verdict is possible of.
            await sender.send(records, OF_OURS, forged=True)
            await _read_up(at, progress)
            outcome = await _outcome(at, sent)
        problems += outcome.problems + await _after(at)
        problems += await _records_of(at, problems)
    return replace(outcome, problems=problems)


async def _outcome(at: Stage, sent: Sent) -> Result:
    """What became of it. The offsets that a group shows may be ahead of the last transaction."""
    end = time.monotonic() + SETTLED_SECONDS
    while True:
        letters = await at.audit.dead_letters()
        merchants = set(await at.audit.table(names.BILLING_RECORDS))
        problems = _problems(sent, letters, merchants)
        if not problems or time.monotonic() > end:
            return Result(sent, len(letters), len(merchants), problems)


class _Sender:
    def __init__(
        self,
        topics: Topics,
        producer: RawProducer,
        rng: random.Random,
        sent: Sent,
        progress: Callable[[str], None],
    ) -> None:
        self._topics = topics
        self._producer = producer
        self._rng = rng
        self._sent = sent
        self._progress = progress
        self._told = 0.0

    async def send(self, records: int, topics: Sequence[str], *, forged: bool = False) -> None:
        """Send until there are so many."""
        rng = self._rng
        while self._sent.records < records:
            topic = rng.choice(topics)
            count = rng.randint(1, RECORDS_MAX)
            batch = wire(rng, [content(rng, topic, forged=forged) for _ in range(count)])
            await self._append(self._topics.name(topic), rng.randrange(PARTITIONS), batch)

    async def _append(self, topic: str, partition: int, batch: Batch) -> None:
        error, offset = await self._producer.append(topic, partition, batch.raw)
        if error:
            self._sent.refused[error] += 1
        else:
            self._sent.add(RecordRef(topic, partition, offset), batch)
        if time.monotonic() > self._told + PROGRESS_SECONDS:
            self._told = time.monotonic()
            self._progress(f"{self._sent.records:,} records sent")


async def _read_up(at: Stage, progress: Callable[[str], None]) -> None:
    """Wait until the worker has read all; it may take its time as long as it gets on."""
    before = None
    while left := sum((await at.audit.lag()).values()):
        if before is not None and left >= before:
            raise AssertionError(f"the worker does not get on, lag {left}\n{at.worker.tail()}")
        progress(f"{left:,} left to read")
        before = left
        for _ in range(40):
            await asyncio.sleep(0.5)
            if not sum((await at.audit.lag()).values()):
                return


@asynccontextmanager
async def _watching(at: Stage) -> AsyncIterator[None]:
    """An error as soon as the worker has ended."""

    async def watch() -> None:
        await at.worker.process.wait()
        raise AssertionError(f"the worker has ended\n{at.worker.tail()}")

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        yield
        watching.cancel()


async def _after(at: Stage) -> list[str]:
    """Whether it is as ready as before, and ends well."""
    problems = []
    async with aiohttp.ClientSession() as session, session.get(f"{at.worker.url}/ready") as ready:
        if ready.status != 200 or "stopped" in await ready.text():
            problems.append(f"/ready: {ready.status} {await ready.text()}")
    if (code := await at.worker.stop()) != 0:
        problems.append(f"the worker ended with {code}\n{at.worker.tail()}")
    return problems + await _commands(at, ["dlq", "list"])


async def _commands(at: Stage, *commands: Sequence[str]) -> list[str]:
    """Whether every other reader gets through."""
    problems = []
    for command in commands:
        code, said = await run(at.env, *command)
        if code != 0:
            problems.append(f"{' '.join(command)} ended with {code}: {said[-3_000:]}")
    return problems


async def _records_of(at: Stage, problems: list[str]) -> list[str]:
    """The records that problems name, as they are in the log."""
    named = {ref for text in problems for ref in re.findall(r"[\w.-]+\[\d+\]@\d+", text)}
    topics = {RecordRef.parse(ref).topic for ref in named}
    records = await read_committed(at.kafka, topics) if topics else []
    return [
        f"{ref}: {record}"[:2_000]
        for record in records
        if (ref := str(RecordRef.of(record))) in named
    ]


def _problems(sent: Sent, letters: list[dict[str, Any]], merchants: set[str]) -> list[str]:
    found = []
    times: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for letter in letters:
        ref = f"{letter['topic']}[{letter['partition']}]@{letter['offset']}"
        times[ref] += 1
        reasons[ref] = letter["reason"]
        if "INTERNAL_ERROR" in letter["reason"]:
            found.append(f"{ref} met a fault of ours: {letter['reason']}")
    found += [f"{ref} is {count} dead letters" for ref, count in times.items() if count > 1]
    for ref, one in sent.awaited.items():
        known = one.merchant in merchants
        why = reasons.get(ref)
        if one.fate is Fate.PROCESSED and (why or not known):
            found.append(f"{ref} is valid, but {why or 'not processed'}")
        if one.fate is Fate.DEAD_LETTER and (known or not why):
            found.append(f"{ref} is invalid, but no dead letter")
        if one.fate is Fate.EITHER and one.merchant and not why and not merchants & {*one.named}:
            found.append(f"{ref} is neither processed nor a dead letter")
    for refs in sent.bombs:
        if sum(times[ref] for ref in refs) != 1 or not times[refs[-1]]:
            found.append(f"the batch {refs[0]} to {refs[-1]} is not one dead letter")
    return [problem[:2_000] for problem in found]


async def _take_producers_time(at: Stage) -> None:
    """As an operator might set it while workers run."""
    admin = AIOKafkaAdminClient(bootstrap_servers=at.kafka)
    await admin.start()
    try:
        settings = {
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": str(2**63 - 1),
            # Else what is old by its time is gone at once.
            "retention.ms": "-1",
        }
        topic = at.topics.name(PRODUCERS_TIME)
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])
    finally:
        await admin.close()
