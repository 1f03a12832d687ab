"""`python -m chaos soak`: a steady load for long, and whether anything in a worker grows.

Nothing has to be subtracted: the load (`soak_load`) changes rows and adds none, so that the
state is as large at the end as at the beginning, and whatever grows is a leak.
"""

import argparse
import asyncio
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from chaos.broker import Brokers
from chaos.counted_worker import OUTPUT
from chaos.recovery import percentile, slope
from chaos.soak_load import Latency, SoakLoad
from chaos.stage import Stage
from chaos.workers import Worker

WORKERS = 2
COMMAND_MODULE = "chaos.counted_worker"
SAMPLE_SECONDS = 10.0
WARM_UP_SECONDS_MAX = 600.0
READY_SECONDS_MAX = 90.0
GROWTH_PERCENT_PER_HOUR_MAX = 2.0
# Samples near each other are alike: only means over so long say something anew.
BIN_SECONDS = 60.0
# A slope smaller than so many standard errors cannot be told from none.
ERRORS = 2.0
SERIES = ("rss_mb", "fds", "threads", "tasks")


@dataclass
class Trend:
    """A straight line through the samples after the warm-up."""

    name: str
    mean: float
    per_hour: float
    error_per_hour: float

    @property
    def percent_per_hour(self) -> float:
        """Of the mean."""
        return 100 * self.per_hour / self.mean if self.mean else 0.0

    @property
    def flat(self) -> bool:
        """Whether it grows by less than 2 % an hour, or by nothing but noise."""
        small = self.percent_per_hour < GROWTH_PERCENT_PER_HOUR_MAX
        return small or self.per_hour < ERRORS * self.error_per_hour

    @property
    def line(self) -> str:
        """One line."""
        return (
            f"{self.name:20} mean {self.mean:9.1f}  slope {self.per_hour:+8.2f} "
            f"({self.percent_per_hour:+6.2f} %) an hour, error {self.error_per_hour:.2f}  "
            f"{'flat' if self.flat else 'GROWS'}"
        )


def trend(name: str, samples: list[tuple[float, float]]) -> Trend:
    """The trend of (seconds, value), from the means over each minute."""
    bins: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for at, value in samples:
        bins[int(at // BIN_SECONDS)].append((at / 3600, value))
    points = [
        (sum(x for x, _ in some) / len(some), sum(y for _, y in some) / len(some))
        for some in bins.values()
    ]
    mean = sum(y for _, y in points) / len(points) if points else 0.0
    per_hour = slope(points)
    return Trend(name, mean, per_hour, _error(points, per_hour))


def _error(points: list[tuple[float, float]], gradient: float) -> float:
    """The standard error of the slope."""
    count = len(points)
    if count < 3:
        return 0.0
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    left = sum((y - mean_y - gradient * (x - mean_x)) ** 2 for x, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return float((left / (count - 2) / spread) ** 0.5)


@dataclass
class Samples:
    """What was measured of each worker: (seconds, value) by series."""

    began: float = field(default_factory=time.monotonic)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def take(self, worker: Worker, tasks_file: Path) -> None:
        """One sample; nothing when the worker does not run."""
        if worker.pid is None:
            return
        process = psutil.Process(worker.pid)
        at = time.monotonic() - self.began
        with process.oneshot():
            found: dict[str, float] = {
                "rss_mb": process.memory_info().rss / 1e6,
                "fds": process.num_fds(),
                "threads": process.num_threads(),
            }
        if tasks_file.exists() and (text := tasks_file.read_text()):
            found["tasks"] = int(text)
        for name, value in found.items():
            self.series[f"worker {worker.number} {name}"].append((at, value))

    def trends(self, warm_up: float) -> list[Trend]:
        """Of every series, without the warm-up."""
        return [
            trend(name, [(at, value) for at, value in samples if at >= warm_up])
            for name, samples in self.series.items()
        ]


def quarters(latencies: list[Latency], begin: float, end: float) -> dict[str, float]:
    """p50 and p99 in ms of the first and of the last quarter between these times."""
    step = (end - begin) / 4
    parts = {"first": (begin, begin + step), "last": (end - step, end)}
    found = {}
    for name, (after, until) in parts.items():
        values = [seconds * 1000 for at, seconds in latencies if after <= at <= until]
        found[f"{name} p50 ms"] = round(percentile(values, 0.5), 1)
        found[f"{name} p99 ms"] = round(percentile(values, 0.99), 1)
    return found


async def _ready(workers: list[Worker]) -> None:
    end = time.monotonic() + READY_SECONDS_MAX
    async with aiohttp.ClientSession() as session:
        while True:
            told = [await worker.readiness(session) for worker in workers]
            if all(one.ready and one.partitions for one in told):
                return
            if time.monotonic() > end:
                raise RuntimeError(f"the workers are not ready: {told}")
            await asyncio.sleep(0.2)


async def soak(arguments: argparse.Namespace, folder: Path) -> int:
    """The whole soak; the exit code."""
    brokers = Brokers(folder, 0, jvm="steady")
    stage = Stage(brokers.direct, folder, prefix="soak.")
    files = [folder / f"tasks-{n}" for n in range(WORKERS)]
    workers = [
        Worker(n, {**stage.environment(brokers.direct), OUTPUT: str(file)}, folder, COMMAND_MODULE)
        for n, file in enumerate(files)
    ]
    seconds = arguments.minutes * 60
    load = SoakLoad(stage, workers, arguments.per_second, arguments.http, seconds)
    try:
        await brokers.start()
        await stage.create_topics()
        for worker in workers:
            worker.want(True)
        await _ready(workers)
        stage.say(f"preparing {len(load.merchants)} merchants and all their purchases")
        await load.prepare()
        await load.ask_all()
        stage.say(f"{arguments.per_second} records/s and {arguments.http:g} requests/s")
        samples = Samples()
        await load.start()
        while time.monotonic() - samples.began < seconds:
            await asyncio.sleep(SAMPLE_SECONDS)
            for worker, file in zip(workers, files, strict=True):
                samples.take(worker, file)
            stage.progress(f"{load.sent} records, {time.monotonic() - samples.began:.0f} s")
        await load.stop()
        codes = await asyncio.gather(*(worker.leave() for worker in workers))
    finally:
        await asyncio.gather(*(worker.close() for worker in workers))
        await brokers.stop()
    ends = Counter(one.code for worker in workers for one in worker.exits)
    restarts = sum(ends.values()) - len(workers)
    return _tell(arguments, load, samples, {"restarts": restarts, "exit codes": list(codes)})


def _tell(
    arguments: argparse.Namespace, load: SoakLoad, samples: Samples, figures: dict[str, Any]
) -> int:
    seconds = arguments.minutes * 60
    warm_up = min(WARM_UP_SECONDS_MAX, seconds / 4)
    trends = samples.trends(warm_up)
    begin, end = samples.began + warm_up, samples.began + seconds
    found = {
        **figures,
        "records sent": load.sent,
        "records held back": load.held_back,
        "requests answered": len(load.of_requests),
        "requests refused": load.refused,
        "from record to committed event": quarters(load.of_records, begin, end),
        "from request to answer": quarters(load.of_requests, begin, end),
    }
    good = all(one.flat for one in trends) and not figures["restarts"] and not load.refused
    print(f"\nafter a warm-up of {warm_up:.0f} s, in {(seconds - warm_up) / 60:.1f} minutes")
    for one in trends:
        print(one.line)
    for what, figure in found.items():
        print(f"{what}: {figure}")
    print("GOOD: flat" if good else "FAULT: something grows, or was not answered")
    if arguments.json:
        told = {**found, "trends": [vars(one) for one in trends], "samples": samples.series}
        arguments.json.write_text(json.dumps(told, indent=2))
    return 0 if good else 1
