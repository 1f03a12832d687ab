"""Where the time of a running worker goes: under load per record, at a rate per transaction."""

import json
import sys
from pathlib import Path
from typing import Any

from bench import latency, throughput
from bench.setting import Setting, WorkerProcess
from bench.timed_worker import OUTPUT

COMMAND = [sys.executable, "-m", "bench.timed_worker"]


async def under_load(setting: Setting, merchants: int, records: int) -> dict[str, float]:
    """Microseconds of the worker's CPU per webhook record, by stage, with a full queue."""
    timed = _Timed(setting)
    async with WorkerProcess(setting, COMMAND) as worker:
        await throughput.run(setting, worker, merchants, records)
    found = timed.read()
    count = found["counts"]["records"]
    costs = {stage: seconds / count * 1e6 for stage, seconds in found["seconds"].items()}
    main = found["main_thread_cpu"] / count * 1e6
    costs["main thread: Kafka protocol, asyncio, Faust"] = main - sum(costs.values())
    costs["main thread, all"] = main
    costs["consumer's thread: fetch and parse"] = found["other_threads_cpu"] / count * 1e6
    costs["elapsed"] = found["elapsed"] / count * 1e6
    costs["records read per transaction"] = count / found["counts"]["transactions"]
    costs["records written per record read"] = found["counts"]["written"] / count
    return costs


async def at_rate(setting: Setting, per_second: int, seconds: int) -> dict[str, float]:
    """What a transaction costs at a fixed rate, and how many there are."""
    timed = _Timed(setting)
    await latency.measure(setting, per_second, seconds, COMMAND)
    found = timed.read()
    transactions = found["counts"]["transactions"]
    cpu = found["main_thread_cpu"] + found["other_threads_cpu"]
    return {
        "commit p50, ms": found["commit_p50_ms"],
        "commit p99, ms": found["commit_p99_ms"],
        "transactions": float(transactions),
        "records read per transaction": found["counts"]["records"] / transactions,
        "worker's CPU, ms per transaction": cpu / transactions * 1000,
    }


class _Timed:
    """Tells the worker where to write, and reads what the last one wrote."""

    def __init__(self, setting: Setting) -> None:
        self._file: Path = setting.folder / f"{setting.prefix}timings.json"
        setting.extra[OUTPUT] = str(self._file)

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._file.read_text())
        return found
