"""Latency at a fixed schedule of arrivals: against Quix Streams, and over the load.

Counts from the time a record was due, as `bench.latency` does. Records that are due within
one step go out as one batch per partition: at high rates a generator that sends them one by
one would take the processor time that is to be measured.
"""

import asyncio
import time
from collections import defaultdict

import msgspec
from aiokafka import AIOKafkaProducer

from bench.events import Purchases
from bench.latency import STEP_SECONDS, _Event, _percentile
from bench.load import Record
from bench.peers.catalog import OURS, Peer, quix
from bench.peers.runs import Where, fresh, require_verified
from bench.setting import Setting, WorkerProcess, say
from billing_stream import topics as names
from billing_stream.engine.partitioner import partition_of

RATE = 1_000
WARM_UP_SECONDS = 12
# Over the load each step has a worker of its own, on a broker that is warm already.
WARM_UP_SECONDS_OF_STEP = 4
COMMIT_INTERVALS = ("0.05", "0.1", "0.5", "1.0")
LOADS_PERCENT = (1, 5, 10, 25, 50, 75, 90)
WAIT_SECONDS_MAX = 60.0

Figures = dict[str, float]


async def against_quix(where: Where, rounds: int, seconds: int) -> dict[str, list[Figures]]:
    """Ours and Quix Streams exactly once at each commit interval, in turn."""
    peers = [OURS] + [
        quix(f"quix-eo {i} s", "exactly-once", None, QUIX_COMMIT_INTERVAL=i, QUIX_LINGER_MS="0")
        for i in COMMIT_INTERVALS
    ]
    found: dict[str, list[Figures]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        for peer in peers:
            figures = await measure(where, peer, RATE, seconds, WARM_UP_SECONDS)
            found[peer.name].append(figures)
            say(f"-> round {number + 1}, {peer.name}: {figures}")
    return found


async def over_load(where: Where, most: float, seconds: int) -> dict[str, list[Figures]]:
    """Ours at shares of its measured maximum."""
    found: dict[str, list[Figures]] = {}
    for percent in LOADS_PERCENT:
        rate = max(1, int(most * percent / 100))
        figures = await measure(where, OURS, rate, seconds, WARM_UP_SECONDS_OF_STEP)
        found[f"{percent} %"] = [{"percent": percent, **figures}]
        say(f"-> {percent} % of {most:,.0f}/s: {figures}")
    return found


async def measure(where: Where, peer: Peer, rate: int, seconds: int, warm_up: int) -> Figures:
    """p50, p99 and the greatest latency in milliseconds, warm-up left out."""
    async with fresh(where, peer) as setting:
        figures = await _measure(setting, peer, rate, seconds, warm_up)
        if peer is OURS:
            await require_verified(setting, rate * (seconds + warm_up))
    return figures


async def _measure(setting: Setting, peer: Peer, rate: int, seconds: int, warm_up: int) -> Figures:
    total = rate * (seconds + warm_up)
    async with (
        peer.load(setting, min(total, 5_000), total) as load,
        WorkerProcess(setting, peer.command) as worker,
    ):
        say(f"{peer.name}: preparing {total} purchases for {rate}/s")
        await load.prepare()
        await worker.start(wait=peer is OURS)
        if peer.prepared:
            await peer.prepared(setting, worker, total)
        arrivals = _Arrivals(rate, rate * warm_up)
        async with Purchases(setting) as events:
            events.on_event = arrivals
            await arrivals.send(setting, load.webhooks(range(total)))
            await events.wait_for(total, WAIT_SECONDS_MAX, worker)
    return arrivals.figures()


class _Arrivals:
    """The schedule, and what came of it; the first `skipped` records are warm-up."""

    def __init__(self, rate: int, skipped: int) -> None:
        self._rate = rate
        self._skipped = skipped
        self._start = 0.0
        self._late: list[float] = []
        self._took: list[float] = []
        self._decode = msgspec.json.Decoder(_Event).decode

    def __call__(self, value: bytes, now: float) -> None:
        number = int(self._decode(value).correlation_id.rpartition("-")[2])
        if number >= self._skipped:
            self._took.append((now - self._start - number / self._rate) * 1000)

    async def send(self, setting: Setting, records: list[Record]) -> None:
        """Send each record when it is due, one batch per partition and step."""
        producer = AIOKafkaProducer(bootstrap_servers=setting.kafka, acks=1, max_batch_size=1 << 19)
        await producer.start()
        try:
            self._start = time.monotonic() + 0.1
            sent = 0
            while sent < len(records):
                now = time.monotonic() - self._start
                due = min(len(records), int(now * self._rate) + 1) if now >= 0 else 0
                if due > sent:
                    if sent >= self._skipped:
                        self._late.append((now - sent / self._rate) * 1000)
                    await _send(setting, producer, records[sent:due])
                    sent = due
                await asyncio.sleep(STEP_SECONDS)
            await producer.flush()
        finally:
            await producer.stop()

    def figures(self) -> Figures:
        """Percentiles; how late the generator was, for a figure beyond it says nothing."""
        took, late = sorted(self._took), sorted(self._late)
        return {
            "per_second": float(self._rate),
            "p50_ms": _percentile(took, 0.50),
            "p99_ms": _percentile(took, 0.99),
            "max_ms": took[-1],
            "generator_late_p99_ms": _percentile(late, 0.99),
        }


async def _send(setting: Setting, producer: AIOKafkaProducer, records: list[Record]) -> None:
    topic = setting.topics.name(names.PURCHASE_UPDATED)
    parts: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        parts[partition_of(record[0], setting.partitions)].append(record)
    for partition, part in parts.items():
        batch = producer.create_batch()
        for merchant, value in part:
            key = merchant.encode()
            if batch.append(key=key, value=value, timestamp=None) is None:
                await producer.send_batch(batch, topic, partition=partition)
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        await producer.send_batch(batch, topic, partition=partition)


def print_table(part: str, found: dict[str, list[Figures]]) -> None:
    """One line for each, the median of its rounds."""
    print(f"\n{part}: webhook record due to committed event, ms{'':18}p50     p99     max")
    for name, rounds in found.items():
        middle = {key: sorted(r[key] for r in rounds)[len(rounds) // 2] for key in rounds[0]}
        rate = f"{name}, {middle['per_second']:,.0f}/s"
        print(
            f"  {rate:54} {middle['p50_ms']:>7.0f} {middle['p99_ms']:>7.0f} "
            f"{middle['max_ms']:>7.0f}"
        )
