"""From a webhook record to its committed event, at a fixed schedule of arrivals."""

import psutil

from bench.arrivals import WARM_UP_SECONDS, Figures, latencies
from bench.load import Load
from bench.setting import Setting, WorkerProcess, say
from bench.throughput import caught_up


async def measure(
    setting: Setting, per_second: int, seconds: int, command: list[str] | None = None
) -> Figures:
    """p50 and p99 in milliseconds, warm-up left out; CPU per webhook, warm-up included."""
    total = per_second * (seconds + WARM_UP_SECONDS)
    await setting.create_topics()
    async with (
        Load(setting, min(total, 5_000), total) as load,
        WorkerProcess(setting, command) as worker,
    ):
        say(f"preparing {total} purchases for {per_second}/s")
        await load.prepare()
        await worker.start()
        await caught_up(setting, worker, total)
        before, broker_before = worker.cpu_seconds(), broker_cpu_seconds()
        found = await latencies(setting, load, worker, per_second, total)
        found["worker_cpu_us"] = (worker.cpu_seconds() - before) / total * 1e6
        found["broker_cpu_us"] = (broker_cpu_seconds() - broker_before) / total * 1e6
        return found


def broker_cpu_seconds() -> float:
    """Processor time of the brokers that this process has started; 0 for others."""
    java = [one for one in psutil.Process().children(recursive=True) if one.name() == "java"]
    return float(sum(used.user + used.system for used in (one.cpu_times() for one in java)))
