"""Reads what is committed and holds it against what was expected."""

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from billing_stream.kafka.committed_log import CommittedLog
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from billing_stream.tables import codecs
from tests.support.traffic import Expected

SUBJECT = {"trial.started": "merchant_id", "trial.expired": "merchant_id"}


async def read_committed(kafka: str, topics: Iterable[str]) -> list[Any]:
    """All committed records of the topics, from their beginnings to their ends."""
    async with CommittedLog({"bootstrap_servers": kafka}) as log:
        tps = [tp for topic in topics for tp in log.partitions(topic)]
        found = log.read(await log.begins(tps), await log.ends(tps))
        return [record async for records in found for record in records]


class Audit:
    """The committed state of one app."""

    def __init__(self, kafka: str, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics

    async def events(self) -> dict[str, list[dict[str, Any]]]:
        """The events of each kind, with their `sequence` header."""
        wanted = {self._topics.name(names.event_type(kind)): kind for kind in names.EVENT_TYPES}
        found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in names.EVENT_TYPES}
        for record in await read_committed(self._kafka, wanted):
            event = json.loads(record.value)
            event["sequence"] = int(dict(record.headers)["sequence"])
            found[wanted[record.topic]].append(event)
        return found

    async def table(self, table: str) -> dict[str, dict[str, Any]]:
        """A table rebuilt from its changelog alone."""
        rows: dict[str, dict[str, Any]] = {}
        for record in await read_committed(self._kafka, [self._topics.changelog(table)]):
            if record.key.startswith(b"\x00"):
                continue
            if record.value is None:
                rows.pop(record.key.decode(), None)
            else:
                rows[record.key.decode()] = json.loads(record.value)
        return rows

    async def dead_letters(self) -> list[dict[str, Any]]:
        """All dead letters."""
        topic = self._topics.name(names.DEAD_LETTERS)
        return [json.loads(r.value) for r in await read_committed(self._kafka, [topic])]

    async def wait_for(self, expected: Expected, seconds: float) -> None:
        """Wait until as many events are committed as are expected, or time is up."""
        wanted = sum(len(subjects) for subjects in expected.events().values())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = sum(len(events) for events in (await self.events()).values())
            if found >= wanted and sum((await self.lag()).values()) == 0:
                return
            await asyncio.sleep(0.5)

    async def lag(self) -> dict[tuple[str, int], int]:
        """Lag of the consumer group as ordinary tools compute it: end minus committed.

        Where nothing is committed yet, all there is: such a partition is not read up.
        """
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka)
        await admin.start()
        try:
            group = self._topics.prefix + self._topics.app_id
            committed = await admin.list_consumer_group_offsets(group)
        finally:
            await admin.close()
        async with CommittedLog({"bootstrap_servers": self._kafka}) as log:
            tps = [tp for name in names.INPUTS for tp in log.partitions(self._topics.name(name))]
            ends = await log.ends(tps, with_open=False)
        read = {tp: at.offset for tp, at in committed.items()}
        return {tuple(tp): ends[tp] - read.get(tp, 0) for tp in tps}

    async def check(self, expected: Expected) -> None:
        """Events exactly once, tables right, bad records diverted once each."""
        events = await self.events()
        for kind, subjects in expected.events().items():
            found = Counter(e["data"][SUBJECT.get(kind, "purchase_id")] for e in events[kind])
            missing, extra = subjects - set(found), set(found) - subjects
            doubled = {subject for subject, times in found.items() if times > 1}
            assert not missing, f"{kind}: {len(missing)} missing, e.g. {sorted(missing)[:3]}"
            assert not extra, f"{kind}: {len(extra)} extra, e.g. {sorted(extra)[:3]}"
            assert not doubled, f"{kind}: {len(doubled)} doubled, e.g. {sorted(doubled)[:3]}"
        self._check_ids_and_sequences(events)
        await self._check_tables(expected)
        letters = await self.dead_letters()
        assert len(letters) == expected.bad, [x["reason"] for x in letters][:5]

    @staticmethod
    def _check_ids_and_sequences(events: dict[str, list[dict[str, Any]]]) -> None:
        every = [event for kind in events.values() for event in kind]
        assert len({event["event_id"] for event in every}) == len(every)
        sequences: dict[str, list[int]] = defaultdict(list)
        for event in every:
            sequences[event["data"]["merchant_id"]].append(event["sequence"])
        for merchant, found in sequences.items():
            assert sorted(found) == list(range(1, len(found) + 1)), merchant

    async def _check_tables(self, expected: Expected) -> None:
        merchants = await self.table(names.BILLING_RECORDS)
        purchases = await self.table(names.CREDIT_PURCHASES)
        shops = await self.table_of_shops()
        assert set(merchants) == set(expected.domains)
        assert {p: row["status"] for p, row in purchases.items()} == expected.status
        assert {p: row["merchant_id"] for p, row in purchases.items()} == expected.owner
        for merchant, row in merchants.items():
            assert row.get("total_credits_purchased", 0) == expected.totals[merchant], merchant
            assert row.get("trial_available", True) == (merchant not in expected.trials)
            assert not row.get("parked"), merchant
        assert shops == {f"shopify:{d}": m for m, d in expected.domains.items()}

    async def table_of_shops(self) -> dict[str, str]:
        """The shops table rebuilt from its changelog."""
        topic = self._topics.changelog(names.SHOPS_TABLE)
        records = await read_committed(self._kafka, [topic])
        rows = [r for r in records if not r.key.startswith(b"\x00")]
        found = {r.key.decode(): r.value and codecs.shop(r.value).merchant_id for r in rows}
        return {shop: merchant for shop, merchant in found.items() if merchant}
