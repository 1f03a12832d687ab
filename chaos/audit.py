"""The end: what is committed, held against what was promised."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from billing_stream.audit.verify.model_state import Catalogue
from billing_stream.audit.verify.verifier import verify as verify_log
from billing_stream.domain.policy import Policy
from billing_stream.kafka.committed_log import CommittedLog
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef
from chaos.promises import Promises
from chaos.stage import REMINDER, Stage

READ_SECONDS_MAX = 120.0
SHOWN_MAX = 3
Rows = dict[str, dict[str, Any]]


async def read_committed(stage: Stage, topics: Iterable[str]) -> list[Any]:
    """All committed records. Raises TimeoutError when the end cannot be reached."""
    async with (
        asyncio.timeout(READ_SECONDS_MAX),
        CommittedLog({"bootstrap_servers": stage.kafka}) as log,
    ):
        tps = [tp for topic in topics for tp in log.partitions(topic)]
        found = log.read(await log.begins(tps), await log.ends(tps))
        return [record async for records in found for record in records]


async def lag(stage: Stage) -> int:
    """How many records of the inputs the group has not read."""
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=stage.kafka)
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=stage.kafka)
    await admin.start()
    await consumer.start()
    try:
        committed = await admin.list_consumer_group_offsets(stage.group)
        ends = await consumer.end_offsets(list(committed)) if committed else {}
        return sum(int(ends[tp] - at.offset) for tp, at in committed.items())
    finally:
        await consumer.stop()
        await admin.close()


class Audit:
    """The committed state, and what is wrong with it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._promises: Promises = stage.promises
        self._sure = set(self._promises.domains) - self._promises.uncertain

    async def check(self) -> dict[str, int]:
        """Report every problem to the stage; how much there was."""
        events = await self._events()
        self._check_events(events)
        rows = await self._table(names.BILLING_RECORDS)
        purchases = await self._table(names.CREDIT_PURCHASES)
        self._check_merchants(rows)
        self._check_purchases(purchases)
        letters = await self._check_dead_letters()
        return {
            "events": sum(len(found) for found in events.values()),
            "merchants": len(rows),
            "purchases": len(purchases),
            "dead letters": letters,
            "answers over HTTP": len(self._promises.answers),
        }

    def _wrong(self, what: str, found: Iterable[Any]) -> None:
        bad = sorted(map(str, found))
        if bad:
            self._stage.problem(f"{what}: {len(bad)}, e.g. {bad[:SHOWN_MAX]}")

    async def _events(self) -> dict[str, list[dict[str, Any]]]:
        topics = self._stage.topics
        kinds = {topics.name(names.event_type(kind)): kind for kind in names.EVENT_TYPES}
        found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in names.EVENT_TYPES}
        for record in await read_committed(self._stage, kinds):
            event = json.loads(record.value)
            event["sequence"] = int(dict(record.headers)["sequence"])
            found[kinds[record.topic]].append(event)
        return found

    def _check_events(self, events: dict[str, list[dict[str, Any]]]) -> None:
        for kind, wanted in self._promises.events().items():
            subject = "merchant_id" if kind.startswith("trial") else "purchase_id"
            found = Counter(
                e["data"][subject] for e in events[kind] if e["data"]["merchant_id"] in self._sure
            )
            sure = Counter({s: n for s, n in wanted.items() if self._is_sure(kind, s)})
            self._wrong(f"{kind}: too few", (sure - found).elements())
            self._wrong(f"{kind}: too many", (found - sure).elements())
        every = [event for found in events.values() for event in found]
        ids = Counter(event["event_id"] for event in every)
        self._wrong("event ids given twice", (id for id, times in ids.items() if times > 1))
        sequences: dict[str, list[int]] = defaultdict(list)
        for event in every:
            sequences[event["data"]["merchant_id"]].append(event["sequence"])
        gaps = (m for m, s in sequences.items() if sorted(s) != list(range(1, len(s) + 1)))
        self._wrong("merchants whose events have gaps in their sequence", gaps)

    def _is_sure(self, kind: str, subject: str) -> bool:
        if kind.startswith("trial"):
            return subject in self._sure
        return self._promises.purchases[subject].merchant in self._sure

    async def _table(self, table: str) -> Rows:
        rows: Rows = {}
        for record in await read_committed(self._stage, [self._stage.topics.changelog(table)]):
            if record.key.startswith(b"\x00"):
                continue
            if record.value is None:
                rows.pop(record.key.decode(), None)
            else:
                rows[record.key.decode()] = json.loads(record.value)
        return rows

    def _check_merchants(self, rows: Rows) -> None:
        self._wrong("merchants missing", self._sure - set(rows))
        self._wrong("merchants nobody created", set(rows) - set(self._promises.domains))
        credits = self._promises.credits()
        wrong, trials, parked = [], [], []
        for merchant in self._sure & set(rows):
            row = rows[merchant]
            total = row.get("total_credits_purchased", 0)
            if total != credits[merchant]:
                wrong.append(f"{merchant} has {total}, not {credits[merchant]}")
            if row.get("trial_available", True) == (merchant in self._promises.trials):
                trials.append(merchant)
            if row.get("parked"):
                parked.append(merchant)
        self._wrong("wrong credits", wrong)
        self._wrong("wrong trials", trials)
        self._wrong("webhooks still parked", parked)

    def _check_purchases(self, rows: Rows) -> None:
        wanted = {p: b for p, b in self._promises.purchases.items() if b.merchant in self._sure}
        # One per key and no more: what a repeated request opened beside it would show here.
        extra = [p for p, row in rows.items() if row["merchant_id"] in self._sure]
        self._wrong("purchases missing", wanted.keys() - rows.keys())
        self._wrong("purchases nobody asked for", set(extra) - wanted.keys())
        wrong = []
        for purchase, bought in wanted.items():
            row, status = rows.get(purchase), bought.outcome()[0].status
            if row and (row["status"], row["merchant_id"]) != (status, bought.merchant):
                wrong.append(f"{purchase} of {bought.merchant} is {row['status']}, not {status}")
        self._wrong("wrong purchases", wrong)

    async def _check_dead_letters(self) -> int:
        topic = self._stage.topics.name(names.DEAD_LETTERS)
        letters = [json.loads(r.value) for r in await read_committed(self._stage, [topic])]
        found = Counter(RecordRef(x["topic"], x["partition"], x["offset"]) for x in letters)
        wanted = Counter(dict.fromkeys(self._promises.bad, 1))
        self._wrong("bad records without a dead letter", (wanted - found).elements())
        extra = found - wanted
        if not self._promises.uncertain:
            reasons = {(x["topic"], x["partition"], x["offset"]): x["reason"] for x in letters}
            self._wrong("dead letters too many", (f"{at} {reasons[at]}" for at in extra.elements()))
        return len(letters)


async def verify(stage: Stage) -> str:
    """The verdict of `billing_stream.audit.verify`, in a line; its faults are problems."""
    report = await verify_log(
        {"bootstrap_servers": stage.kafka},
        stage.topics,
        stage.partitions,
        Catalogue.of(Policy()),
        trial_duration=timedelta(days=14),
        trial_reminder=REMINDER,
        purchase_expiry=timedelta(hours=24),
    )
    for check in report.checks.values():
        if not check.ok:
            examples = "; ".join(fault.line() for fault in check.examples[:SHOWN_MAX])
            stage.problem(f"verify: {check.name}: {check.faults} faults: {examples}")
    *_, verdict = report.lines()
    return f"verify: {verdict}" + "".join(f" (note: {n})" for n in report.notes)
