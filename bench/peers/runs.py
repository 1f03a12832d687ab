"""One run of one peer: prepared, queued, measured, checked."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.events import Purchases
from bench.peers import reading
from bench.peers.catalog import OURS, Peer
from bench.setting import Setting, WorkerProcess, say
from bench.verified import sums, verified
from billing_stream.records import topics as names

RUN_SECONDS_MAX = 300.0
# What comes first may be a whole commit interval's worth at once: it only starts the clock.
FIRST_SECONDS = 0.25
CREDITS = 100
RECORDS_VERIFIED_MAX = 300_000


@dataclass(frozen=True)
class Where:
    """The servers, and a folder for state; `broker` is its process, where that is known."""

    kafka: str
    database: str
    folder: Path
    broker: int | None = None


@dataclass(frozen=True)
class Run:
    """What was measured."""

    records_per_s: float
    restored: int
    restored_seconds: float


class _Pace:
    """Events per second, counted from the end of the first that were seen."""

    def __init__(self) -> None:
        self._until = 0.0
        self._start = 0.0
        self._early = 0

    def __call__(self, value: bytes, now: float) -> None:
        if not self._early:
            self._until = now + FIRST_SECONDS
        if now <= self._until:
            self._early += 1
            self._start = now

    def rate(self, events: Purchases) -> float:
        """Events per second; RuntimeError when there were too few to tell."""
        if events.last <= self._start:
            raise RuntimeError(f"all {events.count} events came at once: take more records")
        return (events.count - self._early) / (events.last - self._start)


@asynccontextmanager
async def fresh(where: Where, peer: Peer) -> AsyncIterator[Setting]:
    """An app with topics of its own, which are deleted in the end."""
    extra = {**peer.options, "DATABASE_URL": where.database} if peer is not OURS else {}
    setting = Setting(where.kafka, where.folder, partitions=8, extra=dict(extra))
    try:
        await setting.create_topics()
        if peer.events_topic:
            await _create(setting, setting.prefix + peer.events_topic)
        yield setting
    finally:
        await reading.delete_topics(setting)


async def measure(where: Where, peer: Peer, merchants: int, records: int) -> Run:
    """Complete all purchases with the peer. RuntimeError when its result is wrong."""
    topic = peer.events_topic or names.event_type("credits.purchased")
    async with fresh(where, peer) as setting:
        pace = _Pace()
        async with (
            peer.load(setting, merchants, records) as load,
            Purchases(setting, setting.prefix + topic) as events,
            WorkerProcess(setting, peer.command) as worker,
        ):
            events.on_event = pace
            webhooks = load.webhooks(range(records))
            if peer.prepared:
                began = time.monotonic()
                await load.prepare()
                await worker.start(wait=peer is OURS)
                await peer.prepared(setting, worker, records)
                say(
                    f"{peer.name}: {records} purchases prepared in {time.monotonic() - began:.0f} s"
                )
                if peer.restarts:
                    await worker.stop()
            if not peer.prepared or peer.restarts:
                await load.send(names.PURCHASE_UPDATED, webhooks)
                await worker.start(wait=False)
            else:
                await load.send(names.PURCHASE_UPDATED, webhooks)
            await events.wait_for(records, RUN_SECONDS_MAX, worker)
            rate = pace.rate(events)
            await worker.stop()
            restored = worker.restored() if peer is OURS else (0, 0.0)
            if events.count != records or len(events.ids) != records:
                raise RuntimeError(
                    f"{peer.name}: {events.count} events, {len(events.ids)} ids, not {records}"
                )
        if peer.total:
            await check(setting, peer, setting.prefix + topic, records)
        if peer is OURS:
            await require_verified(setting, records)
        return Run(rate, *restored)


async def require_verified(setting: Setting, records: int) -> None:
    """Let the verifier judge what ours left behind. RuntimeError when it finds a fault.

    Of very many records only the sums are checked: the verifier holds all of them in memory.
    """
    many = records > RECORDS_VERIFIED_MAX
    if not await (sums(setting, records) if many else verified(setting)):
        raise RuntimeError("ours: what is left behind is not right")


async def check(setting: Setting, peer: Peer, topic: str, records: int) -> None:
    """Add up its events and its state. RuntimeError when either is wrong."""
    granted, credits = await reading.credits_granted(setting, topic)
    if (granted, credits) != (records, records * CREDITS):
        raise RuntimeError(f"{peer.name}: events of {granted} purchases, {credits} credits")
    total = await peer.total(setting) if peer.total else 0
    if total != records * CREDITS:
        raise RuntimeError(f"{peer.name}: its state has {total} credits, not {records * CREDITS}")


async def _create(setting: Setting, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=setting.kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, setting.partitions, 1)])
    finally:
        await admin.close()
