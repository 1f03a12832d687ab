"""`python -m bench.peers`: the same work on all systems, in turn, and what ours is to them."""

import argparse
import asyncio
import json
import logging
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.peers import curves, java, streams
from bench.peers.catalog import BY_NAME, PEERS, PYTHON_OF_QUIX, Peer
from bench.peers.runs import Where, measure
from bench.peers.streams_report import report
from bench.setting import busy_before, machine, say
from billing_stream.dev.cluster import Cluster

PARTS = ("throughput", "latency", "curve", "streams")
RECORDS_MIN = 2_000


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, help="how often each is measured (3; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="fewer records, rates and rounds")
    parser.add_argument("--records", type=int, help="webhooks a run (200,000); slow: fewer")
    parser.add_argument("--only", type=_some(list(BY_NAME)), default=list(BY_NAME))
    parser.add_argument(
        "--parts",
        type=_some(list(PARTS)),
        default=["throughput"],
        help=f"of {', '.join(PARTS)}; streams: a report about Kafka Streams",
    )
    parser.add_argument("--seconds", type=int, help="of each latency, warm-up apart (20)")
    parser.add_argument("--maximum", type=float, help="records/s that 100 %% of the curve is")
    parser.add_argument("--kafka", default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS"))
    parser.add_argument("--database", default=os.environ.get("DATABASE_URL"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--report", type=Path, help="write the report of streams to this file")
    arguments = parser.parse_args()
    usual = streams.QUICK if arguments.quick else streams.FULL
    for name, value in (
        ("rounds", usual.rounds),
        ("records", 2 * usual.queued),
        ("seconds", usual.seconds),
    ):
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def _some(known: list[str]) -> Any:
    def parse(text: str) -> list[str]:
        found = text.split(",")
        unknown = [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return found

    return parse


@contextmanager
def servers(arguments: argparse.Namespace, folder: Path) -> Iterator[Where]:
    """The servers given, or our own."""
    sql = "sql" in arguments.only and "throughput" in arguments.parts
    kafka, postgres = not arguments.kafka, sql and not arguments.database
    if not kafka and not postgres:
        yield Where(arguments.kafka, arguments.database or "", folder)
        return
    with Cluster(folder, kafka=kafka, postgres=postgres, jvm="steady") as cluster:
        yield Where(
            arguments.kafka or cluster.bootstrap_servers,
            cluster.database_url if postgres else arguments.database or "",
            folder,
            broker.pid if (broker := cluster.kafka.server.process) else None,
        )


async def rounds(where: Where, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all in turn, so often; figures by name."""
    peers = [peer for peer in PEERS if peer.name in arguments.only]
    found: dict[str, Any] = {
        peer.name: {"records_per_s": [], "settings": peer.settings, "title": peer.title}
        for peer in peers
    }
    recovery: list[dict[str, float]] = []
    busy: list[float] = []
    for number in range(arguments.rounds):
        busy.append(busy_before())
        for peer in peers:
            records = max(RECORDS_MIN, int(arguments.records * peer.scale))
            run = await measure(where, peer, max(1, records // 10), records)
            found[peer.name]["records_per_s"].append(run.records_per_s)
            found[peer.name]["records"] = records
            if run.restored:
                recovery.append({"records": run.restored, "seconds": run.restored_seconds})
            say(f"-> round {number + 1}, {peer.name}: {run.records_per_s:,.0f} records/s")
    return {"throughput": found, "recovery": recovery, "busy_before_percent": busy}


def median(found: dict[str, Any], name: str) -> float | None:
    """The median of a system, or None when it was not measured."""
    figures = found.get(name)
    return statistics.median(figures["records_per_s"]) if figures else None


def verdict(peer: Peer, ours: float | None, figure: float) -> str:
    """Ours as a multiple of the peer, beside the goal."""
    if ours is None or peer.name == "ours":
        return ""
    ratio = ours / figure
    if peer.goal is None:
        return f"{ratio:7.2f}x"
    return f"{ratio:7.2f}x   goal {peer.goal:g}x   {'met' if ratio >= peer.goal else 'NOT MET'}"


def print_rounds(found: dict[str, Any]) -> None:
    """The table, then what each was set to."""
    ours = median(found, "ours")
    print(f"{'records/s, median (least to most)':66}   ours is")
    for peer in PEERS:
        figure = median(found, peer.name)
        if figure is None:
            continue
        figures = found[peer.name]["records_per_s"]
        span = f"{min(figures):,.0f} to {max(figures):,.0f}"
        print(f"{peer.title:40} {figure:>9,.0f} ({span:>18}) {verdict(peer, ours, figure)}")
    print("\nsettings")
    for peer in PEERS:
        if peer.name in found:
            print(f"  {peer.name}: {peer.settings} ({found[peer.name]['records']:,} records)")


async def run(arguments: argparse.Namespace, where: Where) -> dict[str, Any]:
    """Measure what is asked for."""
    found: dict[str, Any] = {}
    if "throughput" in arguments.parts:
        found |= await rounds(where, arguments)
    if "latency" in arguments.parts:
        found["latency"] = await curves.against_quix(where, arguments.rounds, arguments.seconds)
    if "curve" in arguments.parts:
        most = arguments.maximum or median(found.get("throughput", {}), "ours")
        if most is None:
            raise RuntimeError("the curve needs --maximum, or the throughput of ours measured too")
        found["curve"] = await curves.over_load(where, most, arguments.seconds)
    if "streams" in arguments.parts:
        plan = replace(
            streams.QUICK if arguments.quick else streams.FULL,
            rounds=arguments.rounds,
            queued=arguments.records // 2,
            seconds=arguments.seconds,
            peak_per_s=arguments.maximum or 0.0,
        )
        found["streams"] = await streams.compare(where, plan)
    return found


def check_installed(arguments: argparse.Namespace) -> None:
    """Exit without Quix Streams; leave out Kafka Streams where it cannot be built."""
    if any("quix" in name for name in arguments.only) and not PYTHON_OF_QUIX.exists():
        sys.exit("bench.peers: Quix Streams is not installed: `make peers` does it")
    if "throughput" in arguments.parts and any("kstreams" in name for name in arguments.only):
        try:
            java.build()
        except java.Unavailable as error:
            print(f"Kafka Streams was skipped: {error}")
            arguments.only = [name for name in arguments.only if "kstreams" not in name]


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    arguments = options()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if arguments.parts != ["streams"]:
        check_installed(arguments)
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-peers-"))
    try:
        with servers(arguments, folder) as where:
            found = asyncio.run(run(arguments, where))
    except RuntimeError as error:
        print(f"bench.peers: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(machine())
    if "throughput" in found:
        print_rounds(found["throughput"])
    for part in ("latency", "curve"):
        if part in found:
            curves.print_table(part, found[part])
    if "streams" in found:
        compared, found["streams"] = found["streams"], found["streams"].figures
        text = report(compared)
        print(text)
        if arguments.report:
            arguments.report.write_text(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
