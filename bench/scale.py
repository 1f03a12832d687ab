"""What more partitions, merchants and workers cost: CPU per record, memory, start-up, moves."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from bench import rebalance, throughput
from bench.events import Purchases
from bench.fill import Filled
from bench.load import Load
from bench.setting import Setting, WorkerProcess, say, until
from bench.verified import sums
from billing_stream.records import topics as names

START_SECONDS_MAX = 300.0
# A worker just started has yet to give back what it read the changelogs with.
SETTLE_SECONDS = 2.0
FLAT_PERCENT = 15.0
BYTES_MAX = 600.0
MERCHANTS_MIN = 1_000_000
STARTUP_SECONDS_MAX = 10.0
MOVE_SECONDS_MAX = 5.0

Figures = dict[str, Any]
Row = tuple[str, str, str, bool | None]


class Part(NamedTuple):
    """One measurement; `has_history` says whether the verifier can judge what it leaves."""

    name: str
    partitions: int
    measure: Callable[[Setting], Awaitable[Figures]]
    has_history: bool


def parts(*, quick: bool) -> list[Part]:
    """All measurements of scale, the small ones first."""
    scale = 10 if quick else 1
    records = 200_000 // scale
    few, many, most = 10_000 // scale, 1_000_000 // scale, 5_000_000 // scale
    found = [
        Part(
            f"scale {partitions} partitions",
            partitions,
            partial(over_partitions, merchants=few, records=records),
            True,
        )
        for partitions in (1, 8, 64)
    ]
    found.append(
        Part("scale workers", 8, partial(over_workers, merchants=few, records=records), True)
    )
    sizes = [(few, records, records), (many, 0, 0), (many, many, records), (most, many, records)]
    found += [
        Part(
            f"scale {merchants:,} merchants, {purchases:,} purchases",
            8,
            partial(over_merchants, merchants=merchants, purchases=purchases, records=taken),
            False,
        )
        for merchants, purchases, taken in sizes
    ]
    moved = partial(rebalance.measure, merchants=500_000 // scale)
    return [*found, Part("scale rebalance", 2, moved, False)]


async def over_partitions(setting: Setting, merchants: int, records: int) -> Figures:
    """Throughput and CPU per record of one worker."""
    async with WorkerProcess(setting) as worker:
        figures = await throughput.run(setting, worker, merchants, records)
    return {"partitions": setting.partitions, **figures}


async def over_workers(setting: Setting, merchants: int, records: int) -> Figures:
    """Throughput and CPU per record, of one worker and then of two."""
    await setting.create_topics()
    async with (
        Load(setting, merchants, 2 * records) as load,
        WorkerProcess(setting) as first,
        WorkerProcess(setting) as second,
    ):
        say(f"preparing {2 * records} purchases")
        await load.prepare()
        await first.start()
        await throughput.caught_up(setting, first, 2 * records)
        alone = await _through(setting, load, [first], range(records))
        await second.start()
        workers = [first, second]
        await until(
            lambda: [w.owned() for w in workers] == [setting.partitions // 2] * 2,
            "sharing the partitions",
            60,
        )
        both = await _through(setting, load, workers, range(records, 2 * records))
    return {
        **{f"{what}_1_worker": figure for what, figure in alone.items()},
        **{f"{what}_2_workers": figure for what, figure in both.items()},
    }


async def _through(
    setting: Setting, load: Load, workers: list[WorkerProcess], numbers: range
) -> Figures:
    """Webhooks sent as fast as can be; the rate is that after the last was sent."""
    async with Purchases(setting) as events:
        webhooks = load.webhooks(numbers)
        began = sum(worker.cpu_seconds() for worker in workers)
        await load.send(names.PURCHASE_UPDATED, webhooks)
        count, sent = events.count, time.monotonic()
        await events.wait_for(len(numbers), throughput.RUN_SECONDS_MAX, workers[0])
        used = sum(worker.cpu_seconds() for worker in workers) - began
        if events.last <= sent:
            raise RuntimeError("the workers were as fast as the generator: nothing is known")
        return {
            "records_per_s": (len(numbers) - count) / (events.last - sent),
            "cpu_us_per_record": used / len(numbers) * 1e6,
        }


async def over_merchants(setting: Setting, merchants: int, purchases: int, records: int) -> Figures:
    """Memory, start-up and, of purchases at random, CPU per record."""
    await setting.create_topics()
    filled = Filled(setting, merchants, purchases)
    async with WorkerProcess(setting) as worker:
        await worker.start()
        await asyncio.sleep(SETTLE_SECONDS)
        empty = worker.memory_bytes()
        await worker.stop()
        say(f"filling {merchants:,} merchants, {purchases:,} purchases")
        await filled.write()
        began = time.monotonic()
        await worker.start(seconds=START_SECONDS_MAX)
        startup = time.monotonic() - began
        restored, restore_seconds = worker.restored()
        await asyncio.sleep(SETTLE_SECONDS)
        memory = worker.memory_bytes() - empty
        figures: Figures = {
            "merchants": merchants,
            "purchases": purchases,
            "startup_s": startup,
            "restored": restored,
            "restored_per_s": restored / restore_seconds,
            "memory_bytes_per_merchant": memory / merchants,
            "value_bytes_per_merchant": filled.value_bytes / merchants,
            "beyond_the_value_bytes": (memory - filled.value_bytes) / merchants,
        }
        if records:
            await worker.stop()
            figures |= await _complete_some(setting, filled, worker, records)
    return {**figures, "sums_right": await sums(setting, records)}


async def _complete_some(
    setting: Setting, filled: Filled, worker: WorkerProcess, records: int
) -> Figures:
    """Complete purchases at random, with a full queue."""
    say(f"queueing {records:,} webhooks, then starting the worker")
    await filled.send_webhooks(filled.chosen(records))
    async with Purchases(setting) as events:
        await worker.start(wait=False)
        await until(lambda: events.count > 0, "starting the worker", START_SECONDS_MAX)
        cost = await throughput.cpu_us_per_record(worker, events, records)
        if len(events.ids) != records or events.count != records:
            raise RuntimeError(f"{events.count} events, {len(events.ids)} ids, not {records}")
        rate = (events.count - 1) / (events.last - events.first)
    return {"records_per_s": rate, "cpu_us_per_record": cost}


def rows(found: dict[str, Any]) -> list[Row]:
    """The figures beside the goals."""
    table: list[Row] = []
    scale = {
        name.removeprefix("scale "): figures
        for name, figures in found.items()
        if name.startswith("scale ")
    }
    for name, figures in scale.items():
        for what, figure in figures.items():
            if what.startswith("cpu_us_per_record"):
                table.append((name + _more(what), f"{figure:.1f} us", "", None))
            if what.startswith("records_per_s"):
                table.append((name + _more(what), f"{figure:,.0f}/s", "", None))
        if "startup_s" in figures:
            table += _size_rows(name, figures)
    for what in ("partitions", "merchants"):
        costs = [
            figures["cpu_us_per_record"]
            for figures in scale.values()
            if what in figures and "cpu_us_per_record" in figures
        ]
        if len(costs) > 1:
            spread = (max(costs) / min(costs) - 1) * 100
            name = f"cost per record over {what}, dearest to cheapest"
            table.append((name, f"+{spread:.0f} %", "15 %", spread <= FLAT_PERCENT))
    if moved := scale.get("rebalance"):
        for what in ("join", "leave"):
            seconds = moved[f"{what}_s"]
            name = f"a partition of {moved['merchants_moved']:,} merchants moves, {what}"
            table.append((name, f"{seconds:.1f} s", "5 s", seconds <= MOVE_SECONDS_MAX))
    return table


def _size_rows(name: str, figures: Figures) -> list[Row]:
    # Of fewer, what the worker needs anyway would count for more than their rows.
    if figures["merchants"] < MERCHANTS_MIN:
        return []
    beyond, startup = figures["beyond_the_value_bytes"], figures["startup_s"]
    only_merchants = figures["purchases"] == 0
    return [
        (
            f"{name}: memory each beyond the values",
            f"{beyond:,.0f} B",
            "600 B" if only_merchants else "",
            beyond <= BYTES_MAX if only_merchants else None,
        ),
        (
            f"{name}: start-up",
            f"{startup:.1f} s",
            "10 s" if figures["merchants"] == MERCHANTS_MIN else "",
            startup <= STARTUP_SECONDS_MAX,
        ),
    ]


def _more(what: str) -> str:
    for end in ("_1_worker", "_2_workers"):
        if what.endswith(end):
            return "," + end.replace("_", " ")
    return ""
