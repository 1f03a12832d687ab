"""Kafka Streams does the work of the other peers, exactly once; or the report says why it did not.

Its sources are compiled and run; where there is no JDK or Maven the report has to state that.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.load import charge
from bench.peers import java, reading, work
from bench.peers.catalog import OURS, Peer, kstreams
from bench.peers.runs import Where
from bench.peers.streams import STORES, Plan, compare
from bench.peers.streams_report import report
from bench.setting import Setting, WorkerProcess
from billing_stream.domain.ids import derived_id
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.timestamps import instant

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

MERCHANTS = [f"00000000-0000-4000-8000-{number:012x}" for number in range(40)]
DAY_MS = 24 * 3_600_000
# Not so long ago that the broker deletes the records, and not in its future.
BEGAN_MS = int(time.time() * 1000) - 3 * DAY_MS
KINDS = ("credits.purchased", "purchase.failed", "purchase.expired")
STATUSES = ("ACTIVE", " accepted ", "declined", "pending", "Frozen", "active")

Sent = tuple[str, dict[str, Any], int]
"""Merchant, value, timestamp in ms."""


def buildable() -> bool:
    try:
        java.build()
    except java.Unavailable:
        return False
    return True


class Sender:
    """Sends records to the topic of webhooks, and knows their places."""

    def __init__(self, setting: Setting, producer: AIOKafkaProducer) -> None:
        self._setting = setting
        self._producer = producer

    async def send(self, records: list[Sent]) -> list[str]:
        topic = self._setting.topics.name(names.PURCHASE_UPDATED)
        sent = [
            await self._producer.send(
                topic,
                msgspec.json.encode(value),
                key=merchant.encode(),
                partition=partition_of(merchant, self._setting.partitions),
                timestamp_ms=moment,
            )
            for merchant, value, moment in records
        ]
        return [f"{r.topic}[{r.partition}]@{r.offset}" for r in await asyncio.gather(*sent)]


def command(name: str, merchant: str, **fields: str) -> dict[str, Any]:
    return {"command": name, "merchant_id": merchant, **fields}


def webhook(number: int, merchant: str, status: str) -> dict[str, Any]:
    data = {"merchant_id": merchant, "charge_id": charge(number), "status": status}
    return {"event_id": str(number), "correlation_id": f"correlation-{number}", "data": data}


@asynccontextmanager
async def topics_of_our_time(kafka: str, folder: Path, peer: Peer) -> AsyncIterator[Setting]:
    """As `runs.fresh`, but webhooks have the timestamps that they are sent with."""
    setting = Setting(kafka, folder, partitions=8, extra=peer.options)
    name = setting.topics.name(names.PURCHASE_UPDATED)
    ours = {"message.timestamp.type": "CreateTime"}
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 8, 1, topic_configs=ours)])
    finally:
        await admin.close()
    try:
        await setting.create_topics()
        yield setting
    finally:
        await reading.delete_topics(setting)


async def open_purchases(sender: Sender) -> None:
    """Merchants with three purchases each, the packs in turn; the last has no charge."""
    shops = [
        command("create_merchant", one, platform="shopify", domain=f"{one}.example")
        for one in MERCHANTS
    ]
    await sender.send([(value["merchant_id"], value, BEGAN_MS) for value in shops])
    owners = [(one, pack) for pack in ("small", "medium", "large") for one in MERCHANTS]
    reserves = [
        (one, command("reserve_purchase", one, pack=pack, platform="shopify"), BEGAN_MS + n)
        for n, (one, pack) in enumerate(owners)
    ]
    places = await sender.send(reserves)
    attached = [
        command(
            "attach_charge",
            owner,
            purchase_id=derived_id("purchase", owner, place),
            charge_id=charge(number),
            checkout_url="https://pay.example/1",
        )
        for number, ((owner, _), place) in enumerate(zip(owners, places, strict=True))
        if number < 2 * len(MERCHANTS)
    ]
    # One more purchase of each has a charge already: that is refused.
    await sender.send([(one["merchant_id"], one, BEGAN_MS + DAY_MS // 2) for one in attached * 2])


def webhooks(after_ms: int) -> list[Sent]:
    """One for each charge, then all once more with the next status."""
    charges = range(2 * len(MERCHANTS))
    return [
        (merchant, webhook(number, merchant, STATUSES[(number + turn) % len(STATUSES)]), moment)
        for turn in range(2)
        for number in charges
        for merchant in (MERCHANTS[number % len(MERCHANTS)],)
        for moment in (BEGAN_MS + after_ms + turn,)
    ]


async def expected(setting: Setting) -> tuple[dict[str, list[Any]], work.PlainRows]:
    """The events of each merchant, and the rows, as the rules of billing-stream decide."""
    rows, events = work.PlainRows(), defaultdict(list)
    async for record in reading.records_of(setting, setting.topics.name(names.PURCHASE_UPDATED)):
        incoming = work.read(record)
        decision = work.carry_out(rows, incoming, instant(record.timestamp))
        for kind, value in work.events_of(decision, incoming):
            events[kind].append((record.key, value))
    return {kind: sorted(values) for kind, values in events.items()}, rows


async def state(setting: Setting, store: str) -> dict[str, Any]:
    (topic,) = await reading.topics_with(setting, f"kstreams-{store}-changelog")
    return {r.key.decode(): r.value async for r in reading.records_of(setting, topic)}


@pytest.mark.skipif("not buildable()", reason="the report states it: see the test of the report")
@pytest.mark.parametrize("store", STORES)
async def test_kafka_streams_decides_the_same_exactly_once(
    kafka: str, folder: Path, store: str
) -> None:
    peer: Peer = kstreams(store, store, 20)
    async with (
        topics_of_our_time(kafka, folder, peer) as setting,
        AIOKafkaProducer(bootstrap_servers=kafka) as producer,
        WorkerProcess(setting, peer.command) as worker,
    ):
        assert peer.prepared is not None
        sender = Sender(setting, producer)
        await worker.start(wait=False)
        await open_purchases(sender)
        await sender.send(webhooks(DAY_MS // 2))
        # Killed somewhere in its work, and then stopped with all of it done.
        await worker.logged("ready with 8 partitions")
        await worker.kill()
        await worker.start(wait=False)
        await sender.send(webhooks(2 * DAY_MS))
        await peer.prepared(setting, worker, 0)
        assert await worker.stop() in (0, 143)

        events, rows = await expected(setting)
        for kind in KINDS:
            topic = setting.topics.name(names.event_type(kind))
            found = [(r.key, r.value) async for r in reading.records_of(setting, topic)]
            assert sorted(found) == events.get(kind), kind
            assert found, kind
        purchases = await state(setting, "purchases")
        assert purchases == {key: msgspec.json.encode(p) for key, p in rows.purchases.items()}
        merchants = {k: json.loads(v) for k, v in (await state(setting, "merchants")).items()}
        for merchant in merchants.values():
            merchant.pop("due", None)
        assert merchants == {
            key: msgspec.to_builtins(merchant) for key, merchant in rows.merchants.items()
        }


async def test_report_compares_both_or_states_why_not(kafka: str, folder: Path) -> None:
    plan = Plan(rounds=1, queued=2_000, seconds=1, shares=(), commits_ms=(20,), peak_per_s=20_000.0)

    compared = await compare(Where(kafka, "", folder), plan)
    text = report(compared)

    if buildable():
        assert list(compared.figures) == [OURS.name, "kstreams-memory-20", "kstreams-rocksdb-20"]
        assert text.split("\n\n")[1] == "## Where Kafka Streams is ahead"
        assert compared.figures["kstreams-memory-20"][0]["restored_per_s"] > 0
        assert all(
            one[0]["queue us"] >= one[0]["queue us_without_jit"]
            for name, one in compared.figures.items()
            if name != OURS.name
        )
    else:
        assert text.split("\n\n")[1].startswith("**Kafka Streams was skipped: ")
    assert f"| Measure | {OURS.title} |" in text
