"""A million trials, a thousand ending each second: how late it is told, what it costs others.

Trials end in every second window of time only, so that the same worker is measured with
and without, in turn.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Any

import msgspec

from bench import idle
from bench.events import Purchases
from bench.fill import Filled
from bench.setting import Setting, WorkerProcess, say
from bench.verified import sums
from billing_stream.records import topics as names

DUE_PER_SECOND = 1_000
START_SECONDS_MAX = 300.0
LATE_SECONDS_MAX = 2.0
SLOWER_PERCENT_MAX = 10.0
TICK_MS_MAX = 0.1
TOLD_SECONDS_MAX = 60.0

Figures = dict[str, Any]


class _Data(msgspec.Struct):
    merchant_id: str
    expired_at: datetime


class _Event(msgspec.Struct):
    data: _Data


class Windows:
    """Windows of time in turn: in the even ones no trial ends, in the odd ones many do."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        # Whole seconds, so that no trial is rounded out of its window.
        self._start = int(time.time())

    def ends_at(self, number: int) -> datetime:
        """When the trial of the merchant with this number ends."""
        window, rest = divmod(number / DUE_PER_SECOND, self.seconds)
        return datetime.fromtimestamp(self._start + (2 * window + 1) * self.seconds + rest, UTC)

    async def wait_for(self, *, odd: bool) -> float:
        """Wait for the next window of this kind to begin; when it does, as `time.time()`."""
        number = int((time.time() - self._start) / self.seconds) + 1
        number += (number % 2 == 1) != odd
        begins = self._start + number * self.seconds
        await asyncio.sleep(max(0.0, begins - time.time()))
        return begins


class _Trials:
    """The ends of trials that are told: how late, and of whom."""

    def __init__(self) -> None:
        self.announced: dict[str, tuple[float, float]] = {}
        self.twice = 0
        self._decode = msgspec.json.Decoder(_Event).decode

    def __call__(self, value: bytes, now: float) -> None:
        data = self._decode(value).data
        due = data.expired_at.timestamp()
        self.twice += data.merchant_id in self.announced
        self.announced[data.merchant_id] = (due, time.time() - due)

    def late(self, windows: list[tuple[float, float]]) -> list[float]:
        """Seconds late, of all due in these windows, sorted."""
        return sorted(
            late
            for due, late in self.announced.values()
            if any(begin <= due < end for begin, end in windows)
        )


def part(*, quick: bool) -> Callable[[Setting], Awaitable[Figures]]:
    """What is measured: at full size, or a tenth of it."""
    if quick:
        return partial(measure, merchants=100_000, records=10_000, rounds=1, seconds=8.0)
    return partial(measure, merchants=1_000_000, records=150_000, rounds=3, seconds=30.0)


async def measure(
    setting: Setting, merchants: int, records: int, rounds: int, seconds: float
) -> Figures:
    """Lateness in seconds, throughput with and without, and an idle tick in milliseconds."""
    await setting.create_topics()
    windows = Windows(seconds)
    filled = Filled(setting, merchants, merchants, windows.ends_at)
    chosen = filled.chosen(2 * rounds * records)
    say(f"filling {merchants:,} merchants with a trial and a purchase each")
    await filled.write()
    rates: dict[bool, list[float]] = {False: [], True: []}
    measured: list[tuple[float, float]] = []
    trials = _Trials()
    expired = setting.topics.name(names.event_type("trial.expired"))
    async with (
        WorkerProcess(setting) as worker,
        Purchases(setting, expired) as ends,
        Purchases(setting) as events,
    ):
        ends.on_event = trials
        await worker.start(seconds=START_SECONDS_MAX)
        for number in range(2 * rounds):
            odd = number % 2 == 1
            begins = await windows.wait_for(odd=odd)
            part = chosen[number * records : (number + 1) * records]
            rate = await _through(filled, events, worker, part, begins + seconds)
            say(f"{'1,000 trials end a second' if odd else 'no trial ends'}: {rate:,.0f}/s")
            rates[odd].append(rate)
            if odd:
                measured.append((begins, begins + seconds))
        await asyncio.sleep(max(0.0, measured[-1][1] - time.time()))
        due = int(rounds * seconds * DUE_PER_SECOND)
        late = await _all_told(trials, measured, due, worker)
        if trials.twice:
            raise RuntimeError(f"{trials.twice} trials were told to end twice")
    right = await sums(setting, len(chosen))
    return {
        "merchants": merchants,
        "told": len(late),
        "late_p50_s": late[len(late) // 2],
        "late_p99_s": late[int(len(late) * 0.99)],
        "late_max_s": late[-1],
        "records_per_s_without": median(rates[False]),
        "records_per_s_with": median(rates[True]),
        "slower_percent": (1 - median(rates[True]) / median(rates[False])) * 100,
        "rates_without": rates[False],
        "rates_with": rates[True],
        "idle_tick_ms": await idle.tick_ms(setting, merchants),
        "sums_right": right,
    }


async def _through(
    filled: Filled, events: Purchases, worker: WorkerProcess, numbers: list[int], until: float
) -> float:
    """Webhooks per second from when the last was sent, in this window only; waits for all."""
    before = events.count
    await filled.send_webhooks(numbers)
    began, count = time.time(), events.count
    while events.count < before + len(numbers) and time.time() < until:
        worker.require_alive()
        await asyncio.sleep(0.02)
    ended, done = time.time(), events.count
    if done == count:
        raise RuntimeError("all webhooks were done before the last was sent: take more")
    await events.wait_for(before + len(numbers), START_SECONDS_MAX, worker)
    return (done - count) / (ended - began)


async def _all_told(
    trials: _Trials, windows: list[tuple[float, float]], due: int, worker: WorkerProcess
) -> list[float]:
    """How late each was; RuntimeError when some are not told in time."""
    end = time.monotonic() + TOLD_SECONDS_MAX
    while len(late := trials.late(windows)) < due:
        worker.require_alive()
        if time.monotonic() > end:
            raise RuntimeError(f"the end of {len(late)} of {due} trials was told")
        await asyncio.sleep(0.5)
    return late


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, bool | None]]:
    """The figures beside the goals."""
    figures = found.get("expiry")
    if not figures:
        return []
    late, slower, tick = (
        figures[name] for name in ("late_max_s", "slower_percent", "idle_tick_ms")
    )
    return [
        ("1,000 trials end a second, told late, p99", f"{figures['late_p99_s']:.2f} s", "", None),
        ("the same, the latest", f"{late:.2f} s", "2 s", late <= LATE_SECONDS_MAX),
        ("webhooks/s, no trial ends", f"{figures['records_per_s_without']:,.0f}", "", None),
        (
            "webhooks/s, 1,000 trials end a second",
            f"{figures['records_per_s_with']:,.0f}",
            "",
            None,
        ),
        ("the loss", f"{slower:.1f} %", "10 %", slower < SLOWER_PERCENT_MAX),
        ("an idle tick", f"{tick:.4f} ms", "0.1 ms", tick < TICK_MS_MAX),
    ]
