"""`make bench`: measure the goals and print a table."""

import argparse
import asyncio
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench import (
    deliver,
    expiry,
    http,
    latency,
    live,
    profile,
    projector,
    scale,
    stock,
    throughput,
)
from bench.setting import Setting, busy_before, machine, say
from bench.verified import verified
from billing_stream.dev.cluster import Cluster, postgres_alone

STAGES = "stages without a broker, us per record"
LIVE = "a worker with a full queue, us of its CPU per record"
AT_RATE = "a worker at 1,000 records/s"
PURCHASES = "latency POST /purchases"
PARTS = (
    "throughput",
    "stock",
    "latency",
    "http",
    "profile",
    "scale",
    "expiry",
    "projector",
    "deliver",
)
Row = tuple[str, str, str, bool | None]
Measure = Callable[[Setting], Awaitable[dict[str, Any]]]


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the records or less")
    parser.add_argument("--full", action="store_true", help="latency at more rates, 4 partitions")
    parser.add_argument("--kafka", default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--match", default="", help="of scale: what has this in its name")
    parser.add_argument(
        "--profile", dest="only", action="store_const", const="profile", help="where time goes"
    )
    return parser.parse_args()


@contextmanager
def broker(given: str | None, folder: Path) -> Iterator[str]:
    """The broker given, or one of our own."""
    if given:
        yield given
        return
    with Cluster(folder, kafka=True, jvm="steady") as cluster:
        yield cluster.bootstrap_servers


@asynccontextmanager
async def fresh(kafka: str, folder: Path, partitions: int) -> AsyncIterator[Setting]:
    """An app with topics of its own, which are deleted in the end."""
    setting = Setting(kafka, folder, partitions)
    try:
        yield setting
    finally:
        await setting.delete_topics()


async def run(arguments: argparse.Namespace, kafka: str, folder: Path) -> dict[str, Any]:
    """Measure what is asked for."""
    fewer = 5 if arguments.quick else 1
    wanted = [arguments.only] if arguments.only else ["throughput", "stock", "latency", "http"]
    found: dict[str, Any] = {}

    async def part(
        name: str, partitions: int, measure: Measure, *, has_history: bool = True
    ) -> None:
        busy = busy_before()
        async with fresh(kafka, folder, partitions) as setting:
            found[name] = {**await measure(setting), "busy_before_percent": busy}
            if has_history:
                found[name]["verified"] = await verified(setting)
        say(f"-> {name}: {found[name]}")

    if "profile" in wanted:
        found[STAGES] = profile.measure(20_000 // fewer)
        load = (20_000 // fewer, 200_000 // fewer)
        await part(LIVE, 8, lambda s: live.under_load(s, *load))
        await part(AT_RATE, 8, lambda s: live.at_rate(s, 1000, 8))
    if "throughput" in wanted:
        await part(
            "throughput", 8, lambda s: throughput.measure(s, 20_000 // fewer, 200_000 // fewer)
        )
    if "stock" in wanted:
        await part(
            "stock",
            8,
            lambda s: stock.measure(s, 1_000 // fewer, 6_000 // fewer),
            has_history=False,
        )
    if "latency" in wanted:
        rates = [(8, 1000)]
        if arguments.full:
            rates += [(8, 100), (8, 5000), (4, 100), (4, 1000), (4, 5000)]
        seconds = 8 if arguments.quick else 20
        for partitions, rate in rates:
            name = f"latency {partitions} partitions {rate}/s"
            await part(name, partitions, partial(latency.measure, per_second=rate, seconds=seconds))
    if "http" in wanted:
        seconds = 8 if arguments.quick else 30
        for rate in [100, 300] if arguments.full else [100]:
            name = f"latency POST /trials {rate}/s"
            await part(name, 8, partial(http.measure, per_second=rate, seconds=seconds))
        await part(PURCHASES, 8, partial(http.purchases, seconds=seconds))
    if "scale" in wanted:
        for each in scale.parts(quick=arguments.quick):
            if arguments.match in each.name:
                await part(each.name, each.partitions, each.measure, has_history=each.has_history)
    if "expiry" in wanted:
        await part("expiry", 8, expiry.part(quick=arguments.quick), has_history=False)
    if "projector" in wanted:
        with postgres_alone() as postgres:
            url = postgres.database_url
            measure = partial(projector.measure, database_url=url, purchases=100_000 // fewer)
            await part("projector", 8, measure, has_history=False)
    if "deliver" in wanted:
        with postgres_alone() as postgres:
            url = postgres.database_url
            measure = partial(deliver.measure, database_url=url, events=10_000 // fewer)
            await part("deliver", 8, measure, has_history=False)
    return found


def faulty(found: dict[str, Any]) -> list[str]:
    """The parts that left something behind that is not right."""
    return [
        name
        for name, figures in found.items()
        if not (figures.get("verified", True) and figures.get("sums_right", True))
    ]


def rows(found: dict[str, Any]) -> list[Row]:
    """The figures beside the goals."""
    table: list[Row] = []
    ours = found.get("throughput")
    if ours:
        rate, restored = ours["records_per_s"], ours["restored_per_s"]
        table.append(("webhook records/s, exactly once", f"{rate:,.0f}", "30,000", rate >= 30_000))
        table.append(
            ("recovery, changelog records/s", f"{restored:,.0f}", "100,000", restored >= 100_000)
        )
    if "stock" in found:
        rate = found["stock"]["records_per_s"]
        table.append(("stock Faust, records/s", f"{rate:,.0f}", "", None))
        if ours:
            ratio = ours["records_per_s"] / rate
            table.append(("ours / stock Faust", f"{ratio:.1f}x", "10x", ratio >= 10))
    if "projector" in found:
        rate = found["projector"]["rows_per_s"]
        table.append(("rows/s into PostgreSQL", f"{rate:,.0f}", "20,000", rate >= 20_000))
    if "deliver" in found:
        rate = found["deliver"]["deliveries_per_s"]
        table.append(("webhooks/s on one core", f"{rate:,.0f}", "200", rate >= 200))
    for name, figures in found.items():
        if not name.startswith("latency"):
            continue
        if name == PURCHASES:
            table.append(
                ("POST /purchases, responses/s", f"{figures['peak_per_s']:,.0f}", "", None)
            )
            name = f"{name} {figures['per_second']:,.0f}/s, half of it"
        p50, p99 = figures["p50_ms"], figures["p99_ms"]
        goal = name in ("latency 8 partitions 1000/s", "latency POST /trials 100/s")
        table.append((f"{name}, p50", f"{p50:.0f} ms", "40 ms" if goal else "", goal and p50 <= 40))
        table.append(
            (f"{name}, p99", f"{p99:.0f} ms", "150 ms" if goal else "", goal and p99 <= 150)
        )
    return table + scale.rows(found) + expiry.rows(found)


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    arguments = options()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-bench-"))
    try:
        with broker(arguments.kafka, folder) as kafka:
            found = asyncio.run(run(arguments, kafka, folder))
    except RuntimeError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(machine())
    table = rows(found)
    width = max((len(what) for what, *_ in table), default=0)
    for what, figure, goal, met in table:
        verdict = "" if not goal else ("met" if met else "NOT MET")
        print(f"{what:{width}} {figure:>12}   {goal and 'goal ' + goal:14} {verdict}")
    for part in (STAGES, LIVE, AT_RATE):
        if part in found:
            print(f"\n{part}")
            live.print_table(found[part])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))
    if wrong := faulty(found):
        print(f"bench: what is left behind is not right: {', '.join(wrong)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
