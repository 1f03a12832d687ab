"""`make bench`: measure the goals and print a table."""

import argparse
import asyncio
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import latency, profile, stock, throughput
from bench.setting import Setting, machine, say
from billing_stream.dev.cluster import Cluster

Row = tuple[str, str, str, bool | None]


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the records")
    parser.add_argument("--full", action="store_true", help="latency at more rates, 4 partitions")
    parser.add_argument("--kafka", default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--only", choices=["throughput", "stock", "latency", "profile"], help="one part"
    )
    return parser.parse_args()


@contextmanager
def broker(given: str | None, folder: Path) -> Iterator[str]:
    """The broker given, or one of our own."""
    if given:
        yield given
        return
    with Cluster(folder, kafka=True) as cluster:
        yield cluster.bootstrap_servers


async def run(arguments: argparse.Namespace, kafka: str, folder: Path) -> dict[str, Any]:
    """Measure what is asked for."""
    scale = 5 if arguments.quick else 1
    wanted = [arguments.only] if arguments.only else ["throughput", "stock", "latency"]
    found: dict[str, Any] = {}
    if "profile" in wanted:
        found["profile"] = profile.measure(20_000 // scale)
    if "throughput" in wanted:
        found["throughput"] = await throughput.measure(
            Setting(kafka, folder, 8), 20_000 // scale, 200_000 // scale
        )
        say(f"-> {found['throughput']}")
    if "stock" in wanted:
        found["stock"] = await stock.measure(
            Setting(kafka, folder, 8), 1_000 // scale, 6_000 // scale
        )
        say(f"-> {found['stock']}")
    if "latency" in wanted:
        rates = [(8, 1000)]
        if arguments.full:
            rates += [(8, 100), (8, 5000), (4, 100), (4, 1000), (4, 5000)]
        for partitions, rate in rates:
            name = f"latency {partitions} partitions {rate}/s"
            found[name] = await latency.measure(
                Setting(kafka, folder, partitions), rate, 8 if arguments.quick else 20
            )
            say(f"-> {name}: {found[name]}")
    return found


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
    for name, figures in found.items():
        if not name.startswith("latency"):
            continue
        p50, p99 = figures["p50_ms"], figures["p99_ms"]
        goal = name == "latency 8 partitions 1000/s"
        table.append((f"{name}, p50", f"{p50:.0f} ms", "40 ms" if goal else "", goal and p50 <= 40))
        table.append(
            (f"{name}, p99", f"{p99:.0f} ms", "150 ms" if goal else "", goal and p99 <= 150)
        )
    return table


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
    for what, figure, goal, met in rows(found):
        verdict = "" if not goal else ("met" if met else "NOT MET")
        print(f"{what:44} {figure:>12}   {goal and 'goal ' + goal:14} {verdict}")
    for stage, cost in found.get("profile", {}).items():
        print(f"{stage:44} {cost:>9.1f} us per record")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
