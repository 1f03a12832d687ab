"""A worker with rows in memory, and in RocksDB, in turn over the same topics: what each costs."""

import asyncio
import time
from statistics import median
from typing import Any

from bench import throughput
from bench.events import Purchases
from bench.fill import Filled
from bench.scale import SETTLE_SECONDS, START_SECONDS_MAX
from bench.setting import Setting, WorkerProcess, say, until
from bench.verified import sums

KINDS = ("memory", "rocksdb")
MIB = 1 << 20
RATIO_MIN = 0.5

Figures = dict[str, Any]
Row = tuple[str, str, str, bool | None]


async def measure(
    setting: Setting, merchants: int, purchases: int, records: int, rounds: int
) -> Figures:
    """Each kind `rounds` times in turn, `records` purchases at random each time; once before.

    A worker starts with nothing on the disk, restores all of it and finds a full queue.
    """
    await setting.create_topics()
    filled = Filled(setting, merchants, purchases)
    say(f"filling {merchants:,} merchants, {purchases:,} purchases")
    await filled.write()
    turns = rounds * len(KINDS) + 1
    chosen = filled.chosen(records * turns)
    found: dict[str, list[Figures]] = {kind: [] for kind in KINDS}
    for turn in range(turns):
        kind = KINDS[turn % len(KINDS)]
        say(f"{kind}: queueing {records:,} webhooks, then starting the worker")
        await filled.send_webhooks(chosen[turn * records : (turn + 1) * records])
        setting.extra["BILLING_STORE"] = kind
        figures = await _once(setting, records)
        say(f"{kind}: {figures}")
        # The first one is left out: a broker just started is slow.
        if turn:
            found[kind].append(figures)
    figures = {
        f"{kind}_{what}": median(one[what] for one in found[kind])
        for kind in KINDS
        for what in found[kind][0]
    }
    pairs = zip(*(found[kind] for kind in KINDS), strict=True)
    figures["ratios"] = [slow["records_per_s"] / fast["records_per_s"] for fast, slow in pairs]
    figures["ratio"] = median(figures["ratios"])
    return {**figures, "sums_right": await sums(setting, len(chosen))}


async def _once(setting: Setting, records: int) -> Figures:
    async with WorkerProcess(setting) as worker, Purchases(setting) as events:
        await worker.start(wait=False)
        await until(lambda: events.count > 0, "starting the worker", START_SECONDS_MAX)
        restored, seconds = worker.restored()
        cost = await throughput.cpu_us_per_record(worker, events, records)
        if len(events.ids) != records or events.count != records:
            raise RuntimeError(f"{events.count} events, {len(events.ids)} ids, not {records}")
        rate = (events.count - 1) / (events.last - events.first)
        await asyncio.sleep(SETTLE_SECONDS)
        memory = worker.memory_bytes() / MIB
        began = time.monotonic()
        await worker.stop()
        return {
            "records_per_s": rate,
            "cpu_us_per_record": cost,
            "restored_per_s": restored / seconds,
            "restore_s": seconds,
            "rss_mib": memory,
            "stop_s": time.monotonic() - began,
        }


def rows(found: dict[str, Any]) -> list[Row]:
    """The figures beside the goals."""
    figures = found.get("stores")
    if not figures:
        return []
    table: list[Row] = []
    for kind in KINDS:
        table += [
            (f"{kind}: records/s", f"{figures[f'{kind}_records_per_s']:,.0f}", "", None),
            (f"{kind}: CPU", f"{figures[f'{kind}_cpu_us_per_record']:.1f} us", "", None),
            (f"{kind}: restored/s", f"{figures[f'{kind}_restored_per_s']:,.0f}", "", None),
            (f"{kind}: memory", f"{figures[f'{kind}_rss_mib']:,.0f} MiB", "", None),
        ]
    ratio = figures["ratio"]
    goal = f"{RATIO_MIN:.0%}"
    table.append(("RocksDB's speed, of memory's", f"{ratio:.0%}", goal, ratio >= RATIO_MIN))
    return table
