"""An import from beginning to end: read, send, wait until it is done, compare."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from billing_stream.config.settings import Settings
from billing_stream.console.progress import bar, progress
from billing_stream.domain.commands import ImportMerchant
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.consumers import administering
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_admin import require_topics
from billing_stream.migration.checkpoint import Checkpoint
from billing_stream.migration.comparing import Comparison
from billing_stream.migration.current_rows import read_locally, wait_until_read
from billing_stream.migration.findings import Findings, Rejected
from billing_stream.migration.mapping import Shop
from billing_stream.migration.migration_report import Report
from billing_stream.migration.old_database import PURCHASES, RECORDS, OldDatabase, reading
from billing_stream.migration.old_merchants import merchants, note_columns
from billing_stream.migration.sending import Block, Ends, Sender, records_of, sending
from billing_stream.records.topics import COMMANDS, Topics

# A block has the merchants whose ids begin with the same two digits: there are 256.
BLOCK_DIGITS = 2
RECORDS_ON_THEIR_WAY_MAX = 5_000


@dataclass(frozen=True)
class ImportOptions:
    """The options of an import. `wait`: how long workers may process nothing."""

    dry_run: bool = False
    fresh: bool = False
    compare: bool = True
    wait: timedelta = timedelta(minutes=1)
    differences_max: int = 20
    shops: Mapping[str, Shop] = field(default_factory=dict)
    on_reject: Rejected | None = None


class Import:
    """One import, from the database at `url` into the service that the settings name."""

    def __init__(self, settings: Settings, url: str, asked: ImportOptions) -> None:
        self._settings = settings
        self._url = url
        self._asked = asked
        self._topics = Topics(settings.app_id, settings.topic_prefix)
        self._kafka = client_options(settings)
        self._ends: Ends = {}
        findings = Findings(asked.on_reject)
        self.report = Report(findings, differences_max=asked.differences_max)

    async def run(self) -> Report:
        """Raises a BillingError when something cannot be read or sent; it can be run again."""
        began = time.monotonic()
        if not self._asked.dry_run:
            await self._require_topics()
        async with reading(self._url) as old:
            await note_columns(old, self.report.findings)
            if self._asked.dry_run:
                async for block in self._blocks(old, "reading"):
                    self.report.commands += len(block.records)
            else:
                await self._bring_in(old)
        self.report.seconds = time.monotonic() - began
        return self.report

    async def _bring_in(self, old: OldDatabase) -> None:
        target = [self._topics.name(COMMANDS), self._settings.app_id, await self._cluster()]
        checkpoint = Checkpoint.of(self._settings.data_dir, await old.identity(), *target)
        if self._asked.fresh:
            checkpoint.clear()
        deadline = StartDeadline.of(self._settings)
        async with sending(self._kafka, target[0], self._settings.partitions, deadline) as sender:
            await self._send(old, sender, checkpoint)
        if self._asked.compare and self._ends:
            wait = self._asked.wait.total_seconds()
            with bar("processing", sum(self._ends.values())) as advance:
                self.report.waited = await wait_until_read(
                    self._kafka, self._topics, self._ends, wait, advance
                )
        if self.report.waited is False:
            # The same again need not send again.
            return
        if self._asked.compare:
            await self._compare(old)
        checkpoint.clear()

    async def _send(self, old: OldDatabase, sender: Sender, checkpoint: Checkpoint) -> None:
        """Block by block; while some are on their way, the next is read."""
        on_their_way: deque[tuple[int, asyncio.Task[None]]] = deque()
        try:
            async for block in self._blocks(old, "reading and sending"):
                self.report.commands += len(block.records)
                ends = checkpoint.ends(block)
                if ends is not None:
                    self._crash_hook(ends)
                    continue
                while sum(count for count, _ in on_their_way) > RECORDS_ON_THEIR_WAY_MAX:
                    await on_their_way[0][1]
                    on_their_way.popleft()
                task = asyncio.create_task(self._send_block(block, sender, checkpoint))
                on_their_way.append((len(block.records), task))
            for _, task in on_their_way:
                await task
        finally:
            for _, task in on_their_way:
                task.cancel()

    async def _send_block(self, block: Block, sender: Sender, checkpoint: Checkpoint) -> None:
        ends = await sender.send(block.records)
        checkpoint.add(block, ends)
        self.report.sent += len(block.records)
        self._crash_hook(ends)

    async def _blocks(self, old: OldDatabase, label: str) -> AsyncIterator[Block]:
        block: Block | None = None
        bytes_max = self._settings.max_record_bytes
        found = merchants(
            old, self._settings.policy, self.report.findings, label, self._asked.shops
        )
        async for command in found:
            self._expect(command)
            name = command.merchant_id[:BLOCK_DIGITS]
            if block is not None and block.name != name:
                yield block
                block = None
            block = block or Block(name)
            for record in records_of(command, bytes_max):
                block.add(command.merchant_id, record)
        if block is not None:
            yield block

    async def _compare(self, old: OldDatabase) -> None:
        """Once more through the same snapshot: what was sent against the rows here."""
        with progress() as show:
            here = await read_locally(self._kafka, self._topics, self._settings.partitions, show)
        comparison = Comparison(here, datetime.now(UTC))
        async for command in merchants(old, self._settings.policy, Findings(), "comparing"):
            comparison.take(command)
        comparison.finish()
        self.report.comparison = comparison
        self.report.differences = comparison.differences

    def _expect(self, command: ImportMerchant) -> None:
        self.report.expected[RECORDS] += 1
        self.report.expected[PURCHASES] += len(command.purchases)

    def _crash_hook(self, ends: Ends) -> None:
        for partition, end in ends.items():
            self._ends[partition] = max(self._ends.get(partition, 0), end)

    async def _require_topics(self) -> None:
        wanted = {
            self._topics.name(COMMANDS),
            self._topics.changelog(RECORDS),
            self._topics.changelog(PURCHASES),
        }
        topics = [topic for topic in self._topics.all() if topic.name in wanted]
        await require_topics(self._settings, topics, StartDeadline.of(self._settings))

    async def _cluster(self) -> str:
        async with administering(self._kafka) as admin:
            described: dict[str, Any] = await admin.describe_cluster()
            return str(described.get("cluster_id"))
