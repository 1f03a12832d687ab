"""From a webhook record to its committed event, at a fixed schedule of arrivals."""

from bench.arrivals import WARM_UP_SECONDS, Figures, latencies
from bench.load import Load
from bench.setting import Setting, WorkerProcess, say
from bench.throughput import caught_up


async def measure(
    setting: Setting, per_second: int, seconds: int, command: list[str] | None = None
) -> Figures:
    """p50 and p99 in milliseconds, warm-up left out."""
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
        return await latencies(setting, load, worker, per_second, total)
