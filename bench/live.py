"""Where the time of a running worker goes: under load per record, at a rate per transaction."""

import json
import sys
from pathlib import Path
from typing import Any

from bench import latency, throughput
from bench.arrivals import percentile
from bench.setting import Setting, WorkerProcess
from bench.timed_worker import FETCH, OUTPUT, STAGES

COMMAND = [sys.executable, "-m", "bench.timed_worker"]
REST = "the rest: event loop, Faust, timing"
ALL = "all of the worker's CPU"


async def under_load(setting: Setting, merchants: int, records: int) -> dict[str, Any]:
    """Microseconds of the worker's CPU per webhook record, by stage, with a full queue.

    `stages_us` are exclusive and add up to all of the CPU. The wait for commits is none: while
    a lane waits the others work.
    """
    timed = _Timed(setting)
    async with WorkerProcess(setting, COMMAND) as worker:
        await throughput.run(setting, worker, merchants, records)
    found = timed.read()
    count, transactions = found["counts"]["records"], found["counts"]["transactions"]
    stages = {stage: found["seconds"].get(stage, 0.0) / count * 1e6 for stage in STAGES}
    main, others = (
        found[f"{thread}_cpu"] / count * 1e6 for thread in ("main_thread", "other_threads")
    )
    rest = main - sum(stages.values())
    stages[FETCH] += others
    waits = found["wait_ms"]
    return {
        "stages_us": {**stages, REST: rest},
        ALL: main + others,
        "of it the timing itself, about": found["metering"] / count * 1e6,
        "elapsed": found["elapsed"] / count * 1e6,
        "commit wait p50, ms": percentile(waits, 0.50),
        "commit wait p99, ms": percentile(waits, 0.99),
        "commit wait, % of a lane's time": sum(waits)
        / (found["elapsed"] * 1000 * setting.partitions)
        * 100,
        "records read per transaction": count / transactions,
        "records written per record read": found["counts"]["written"] / count,
    }


async def at_rate(setting: Setting, per_second: int, seconds: int) -> dict[str, Any]:
    """What a transaction costs at a fixed rate, and how many there are."""
    timed = _Timed(setting)
    await latency.measure(setting, per_second, seconds, COMMAND)
    found = timed.read()
    transactions = found["counts"]["transactions"]
    cpu = found["main_thread_cpu"] + found["other_threads_cpu"]
    return {
        "commit p50, ms": percentile(found["commit_ms"], 0.50),
        "commit p99, ms": percentile(found["commit_ms"], 0.99),
        "commit wait p50, ms": percentile(found["wait_ms"], 0.50),
        "transactions": float(transactions),
        "records read per transaction": found["counts"]["records"] / transactions,
        "worker's CPU, ms per transaction": cpu / transactions * 1000,
    }


def print_table(figures: dict[str, Any]) -> None:
    """Stages with their shares, then what else was found."""
    stages: dict[str, float] = figures.get("stages_us", {})
    total = sum(stages.values())
    for stage, cost in stages.items():
        print(f"  {stage:46} {cost:>9.1f} {cost / total * 100:>7.1f} %")
    for what, figure in figures.items():
        if not isinstance(figure, dict | bool):
            print(f"  {what:46} {figure:>9.1f}")


class _Timed:
    """Tells the worker where to write, and reads what the last one wrote."""

    def __init__(self, setting: Setting) -> None:
        self._file: Path = setting.folder / f"{setting.prefix}timings.json"
        setting.extra[OUTPUT] = str(self._file)

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._file.read_text())
        return found
