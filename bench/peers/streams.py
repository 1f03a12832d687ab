"""billing-stream and Kafka Streams in turn: started, restored, with a full queue, at fixed rates.

After its preparation a run is one process: cold with a full queue, then at the rates, the highest
first, and warm with a full queue. So a JIT compiler has done its work before latencies count.
"""

import shutil
import time
from dataclasses import dataclass, field, replace

from bench.arrivals import Arrivals
from bench.events import Purchases
from bench.load import Load
from bench.peers import java
from bench.peers.catalog import OURS, Peer, kstreams
from bench.peers.runs import RUN_SECONDS_MAX, Where, check, fresh, require_verified
from bench.peers.runs import measure as throughput
from bench.peers.usage import Usage
from bench.setting import OWNED, Setting, WorkerProcess, busy_before, say, until
from billing_stream.records import topics as names

STORES = ("memory", "rocksdb")
SETTLE_SECONDS = 5
LOW_RATE = 1_000
MIB = 1 << 20

Figures = dict[str, float]


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    `queued` webhooks at once, first and last; between them `seconds` at `LOW_RATE` and at each of
    `shares` of the peak, which is billing-stream's own, in records per second.
    """

    rounds: int
    queued: int
    seconds: int
    shares: tuple[float, ...] = (0.25, 0.5)
    commits_ms: tuple[int, ...] = (20, 50, 100)
    peak_per_s: float = 0.0

    @property
    def rates(self) -> list[int]:
        """The fixed rates, lowest first."""
        return sorted({LOW_RATE, *(int(self.peak_per_s * share) for share in self.shares)})

    @property
    def total(self) -> int:
        """The webhooks of a run."""
        return 2 * self.queued + sum(self.rates) * (SETTLE_SECONDS + self.seconds)


FULL = Plan(rounds=3, queued=100_000, seconds=20)
QUICK = Plan(rounds=1, queued=20_000, seconds=5, shares=(0.25,), commits_ms=(20, 100))


@dataclass
class Compared:
    """The figures of each round, by system. `skipped`: why Kafka Streams was not measured."""

    plan: Plan
    systems: list[Peer]
    skipped: str | None = None
    figures: dict[str, list[Figures]] = field(default_factory=dict)
    busy_percent: list[float] = field(default_factory=list)


def systems(plan: Plan) -> list[Peer]:
    """Kafka Streams with each store and commit interval. Raises Unavailable."""
    java.build()
    return [
        kstreams(f"kstreams-{store}-{ms}", store, ms) for store in STORES for ms in plan.commits_ms
    ]


async def compare(where: Where, plan: Plan) -> Compared:
    """All systems in turn, in each round. The peak is measured first where the plan has none.

    Raises RuntimeError when the result of a system is wrong.
    """
    if not plan.peak_per_s:
        peak = await throughput(where, OURS, plan.queued // 5, 2 * plan.queued)
        plan = replace(plan, peak_per_s=peak.records_per_s)
    found = Compared(plan, [OURS])
    try:
        found.systems += systems(plan)
    except java.Unavailable as error:
        found.skipped = str(error)
    for number in range(plan.rounds):
        for system in found.systems:
            found.busy_percent.append(busy_before())
            figures = await measure(where, system, plan)
            found.figures.setdefault(system.name, []).append(figures)
            say(f"-> round {number + 1}, {system.name}: {figures}")
    return found


async def measure(where: Where, system: Peer, plan: Plan) -> Figures:
    """One run of a system. Raises RuntimeError when its result is wrong."""
    topic = names.event_type("credits.purchased")
    async with fresh(where, system) as setting:
        async with (
            system.load(setting, plan.total // 10, plan.total) as load,
            WorkerProcess(setting, system.command) as worker,
        ):
            found = {f"start_{k}": v for k, v in (await _start(worker)).items()}
            say(f"{system.name}: preparing {plan.total:,} purchases")
            await load.prepare()
            if system.prepared:
                await system.prepared(setting, worker, plan.total)
            await worker.stop()
            found["restart_s"] = (await _start(worker))["s"]
            await worker.stop()
            # As on a new machine: Kafka is all that is left.
            shutil.rmtree(worker.env["BILLING_DATA_DIR"], ignore_errors=True)
            found |= {f"recovery_{k}": v for k, v in (await _start(worker)).items()}
            records, seconds = worker.restored()
            found["restored_per_s"] = records / max(seconds, 0.001)
            async with Purchases(setting) as events:
                run = _Run(where, setting, load, worker, events)
                _, end = await run.full_queue(0, plan.queued)
                found["cold_cpu_s"] = end.worker.cpu
                first = plan.queued
                for rate in reversed(plan.rates):
                    found |= await run.at_rate(rate, plan.seconds, first)
                    first += rate * (SETTLE_SECONDS + plan.seconds)
                begin, end = await run.full_queue(first, plan.queued)
                found["queue_per_s"] = (end.events - begin.events) / (end.at - begin.at)
                found |= _costs("queue", begin, end)
                found["end_mib"] = worker.memory_bytes() / MIB
                await worker.stop()
                if events.count != plan.total or len(events.ids) != plan.total:
                    counts = f"{events.count} events, {len(events.ids)} ids"
                    raise RuntimeError(f"{system.name}: {counts}, not {plan.total}")
        await check(setting, system, setting.prefix + topic, plan.total)
        if system is OURS:
            await require_verified(setting, plan.total)
    return found


async def _start(worker: WorkerProcess) -> Figures:
    """Start it; the seconds until it has all its partitions, its CPU seconds and memory then."""
    logged, began = len(worker.text()), time.monotonic()
    await worker.start(wait=False)

    def ready() -> bool:
        worker.require_alive()
        return OWNED.search(worker.text(), logged) is not None

    await until(ready, "the start of a worker", RUN_SECONDS_MAX)
    seconds = time.monotonic() - began
    return {"s": seconds, "cpu_s": worker.cpu_seconds(), "mib": worker.memory_bytes() / MIB}


@dataclass(frozen=True)
class _Sample:
    at: float
    events: int
    worker: Usage
    broker: Usage


@dataclass(frozen=True)
class _Run:
    """One process that has its rows, and its load."""

    where: Where
    setting: Setting
    load: Load
    worker: WorkerProcess
    events: Purchases

    async def full_queue(self, first: int, queued: int) -> tuple[_Sample, _Sample]:
        """After a fifth of them, when all have been sent, and at the end."""
        say(f"queueing {queued:,} webhooks")
        numbers = range(first, first + queued)
        await self.load.send(names.PURCHASE_UPDATED, self.load.webhooks(numbers))
        await self._events(first + queued // 5)
        begin = self._sample()
        await self._events(first + queued)
        return begin, self._sample()

    async def at_rate(self, rate: int, seconds: int, first: int) -> Figures:
        """Latencies, and costs over the same seconds."""
        say(f"sending {rate:,}/s for {SETTLE_SECONDS + seconds} s")
        numbers = range(first, first + rate * (SETTLE_SECONDS + seconds))
        arrivals = Arrivals(rate, SETTLE_SECONDS, first)
        samples: list[_Sample] = []

        def on_event(value: bytes, now: float) -> None:
            arrivals(value, now)
            if not samples and self.events.count >= first + rate * SETTLE_SECONDS:
                samples.append(self._sample())

        self.events.on_event = on_event
        await arrivals.send(self.setting, self.load.webhooks(numbers))
        await self._events(numbers.stop)
        self.events.on_event = None
        figures = arrivals.figures()
        kept = ("p50_ms", "p99_ms", "generator_late_p99_ms")
        return {f"{rate}/s {name}": figures[name] for name in kept} | _costs(
            f"{rate}/s", samples[0], self._sample()
        )

    async def _events(self, count: int) -> None:
        await self.events.wait_for(count, RUN_SECONDS_MAX, self.worker)

    def _sample(self) -> _Sample:
        worker, broker = Usage.of(self.worker.pid), Usage.of(self.where.broker)
        return _Sample(time.monotonic(), self.events.count, worker, broker)


def _costs(what: str, before: _Sample, after: _Sample) -> Figures:
    """Microseconds of CPU per record."""
    us = 1e6 / max(1, after.events - before.events)
    worker = after.worker - before.worker
    return {
        f"{what} us": worker.cpu * us,
        f"{what} us_without_jit": (worker.cpu - worker.jit) * us,
        f"{what} broker_us": (after.broker - before.broker).cpu * us,
    }
