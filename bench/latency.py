"""From a webhook record to its committed event, at a fixed schedule of arrivals."""

from bench.arrivals import WARM_UP_SECONDS, Arrivals, Figures
from bench.events import Purchases
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
        arrivals = Arrivals(per_second)
        async with Purchases(setting) as events:
            events.on_event = arrivals
            say(f"sending {per_second}/s for {seconds + WARM_UP_SECONDS} s")
            await arrivals.send(setting, load.webhooks(range(total)))
            await events.wait_for(total, 60, worker)
    return arrivals.figures()
