"""The report about Kafka Streams, as Markdown: first where it is ahead of billing-stream."""

import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from bench.peers.catalog import OURS, Peer
from bench.peers.streams import FULL, SETTLE_SECONDS, Compared, Plan
from bench.setting import machine

IDLE_PERCENT_MAX = 20.0
HEAD = "| Measure | billing-stream | Kafka Streams | Its settings | Factor |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Measure:
    """One figure of a run. `goal`: the multiple of Kafka Streams's figure that is allowed."""

    key: str
    title: str
    goal: float | None = None
    more_is_better: bool = False


@dataclass(frozen=True)
class Comparison:
    """A measure of both, each the median of its rounds; of Kafka Streams its best settings."""

    measure: Measure
    own: float
    other: float
    settings: str

    @property
    def cost(self) -> float:
        """What billing-stream needs of it as a multiple of Kafka Streams; below 1 is better."""
        more = self.measure.more_is_better
        return self.other / self.own if more else self.own / self.other

    @property
    def met(self) -> bool:
        """Whether the goal is met."""
        return self.measure.goal is not None and self.cost <= self.measure.goal


def measures(plan: Plan) -> Iterator[Measure]:
    """All that is compared: what has a goal first."""
    for rate in plan.rates:
        for percentile in ("p50", "p99"):
            title = f"Latency at {rate:,} webhooks/s, {percentile}, ms"
            yield Measure(f"{rate}/s {percentile}_ms", title, 1.0)
    restored = f"{plan.total:,} purchases"
    yield Measure("recovery_s", f"Recovery: start to ready with {restored}, s", 1.0)
    yield Measure("start_s", "Start-up: start to ready without rows, s", 1.0)
    yield Measure("recovery_mib", f"Memory with {restored} restored, MiB", 1.0)
    yield Measure("end_mib", "Memory after all webhooks, MiB", 1.0)
    yield Measure("cold_cpu_s", f"Cold CPU: start, recovery and the first {plan.queued:,}, s", 1.0)
    warm = f"Warm CPU at full queue, after {plan.total - plan.queued:,} webhooks, us per webhook"
    yield Measure("queue us_without_jit", f"{warm}, without JIT compiler threads", 1.2)
    yield Measure("queue us", warm)
    yield Measure("queue broker_us", "CPU of the broker at full queue, us per webhook")
    yield Measure("queue_per_s", "Webhooks/s at full queue, warm", more_is_better=True)
    yield Measure("recovery_cpu_s", f"CPU from start to ready with {restored}, s")
    yield Measure("start_cpu_s", "CPU from start to ready without rows, s")
    yield Measure("restored_per_s", "Changelog records/s restored", more_is_better=True)
    yield Measure("restart_s", "Restart with the state folder kept, s")
    for rate in plan.rates:
        title = f"CPU at {rate:,} webhooks/s, us per webhook"
        yield Measure(f"{rate}/s us_without_jit", f"{title}, without JIT compiler threads")
        yield Measure(f"{rate}/s us", title)
        yield Measure(f"{rate}/s broker_us", f"CPU of the broker at {rate:,} webhooks/s, us each")


def comparisons(compared: Compared) -> list[Comparison]:
    """Each measure that both have."""
    found = []
    others = [system for system in compared.systems if system is not OURS]
    for measure in measures(compared.plan):
        own = _median(compared, OURS, measure.key)
        by_system = {_settings(one): _median(compared, one, measure.key) for one in others}
        # The broker's is unknown where it was not started here.
        if own and by_system:
            best = (max if measure.more_is_better else min)(by_system, key=by_system.__getitem__)
            found.append(Comparison(measure, own, by_system[best], best))
    return found


def report(compared: Compared) -> str:
    """The whole report."""
    parts = ["# billing-stream and Kafka Streams"]
    if compared.skipped:
        parts.append(
            f"**Kafka Streams was skipped: {compared.skipped}.** Only billing-stream was measured."
        )
    else:
        quick = compared.plan.queued < FULL.queued
        parts += _verdicts(comparisons(compared), max(compared.busy_percent), quick=quick)
    parts += _figures(compared)
    parts += _settings_part(compared)
    return "\n\n".join(parts) + "\n"


def _verdicts(found: list[Comparison], busy_percent: float, *, quick: bool) -> Iterator[str]:
    behind = sorted((one for one in found if one.cost > 1), key=lambda one: -one.cost)
    ahead = sorted((one for one in found if one.cost <= 1), key=lambda one: one.cost)
    yield "## Where Kafka Streams is ahead"
    if busy_percent > IDLE_PERCENT_MAX:
        yield (
            f"**Other processes used up to {busy_percent:.0f}% of the cores.** CPU can be compared;"
            " seconds, rates and latencies are those of a machine without room, for both."
        )
    yield "\n".join([HEAD, *(_row(one, one.cost) for one in behind)]) if behind else "In nothing."
    yield "## Where billing-stream is ahead"
    if quick:
        yield "So few webhooks do not warm up a JVM: its warm CPU is lower than here."
    yield "\n".join([HEAD, *(_row(one, 1 / one.cost) for one in ahead)]) if ahead else "In nothing."
    yield "Medians of the rounds. Of Kafka Streams each line has the best of its settings."
    yield "## Goals of billing-stream"
    goals = [
        f"| {one.measure.title} | {one.measure.goal:g}x | {one.cost:.2f}x | "
        f"{'met' if one.met else '**not met**'} |"
        for one in found
        if one.measure.goal is not None
    ]
    yield "\n".join(
        ["| Measure | At most, of Kafka Streams | Measured | Result |\n|---|---|---|---|", *goals]
    )


def _row(one: Comparison, factor: float) -> str:
    figures = f"{_text(one.own)} | {_text(one.other)}"
    return f"| {one.measure.title} | {figures} | {one.settings} | {factor:.2f}x |"


def _figures(compared: Compared) -> Iterator[str]:
    yield "## All figures"
    yield "Median of the rounds (least to greatest). Columns: store and commit interval."
    heads = " | ".join(_settings(system) for system in compared.systems)
    lines = [f"| Measure | {heads} |", "|---" * (len(compared.systems) + 1) + "|"]
    for measure in measures(compared.plan):
        cells = [_span(compared, system, measure.key) for system in compared.systems]
        lines.append(f"| {measure.title} | {' | '.join(cells)} |")
    yield "\n".join(lines)


def _settings_part(compared: Compared) -> Iterator[str]:
    plan, busy = compared.plan, compared.busy_percent
    yield "## How it was measured"
    first, libraries = machine().split("\n")
    yield (
        f"{first}. {libraries}. Before each run other processes used {min(busy):.0f} to "
        f"{max(busy):.0f}% of the cores; load average at the end {os.getloadavg()[0]:.1f}. "
        f"Rounds: {plan.rounds}, the systems in turn. The peak of billing-stream alone is "
        f"{plan.peak_per_s:,.0f} webhooks/s."
    )
    yield (
        "Each run: start without rows, prepare the purchases, restart, start with an empty state "
        f"folder (recovery), {plan.queued:,} webhooks at once (cold), each rate for "
        f"{plan.seconds} s after {SETTLE_SECONDS} s that are left out, the highest first, and "
        f"{plan.queued:,} webhooks at once (warm). From recovery on it is one process, so that its "
        "code is compiled. Each result is checked: one event for each webhook, all ids distinct, "
        "the credits of the events and of the state."
    )
    # One of Kafka Streams stands for all: they differ in store and commit interval.
    yield "\n".join(f"- {_settings(one)}: {one.settings}" for one in compared.systems[:2])


def _settings(system: Peer) -> str:
    if system is OURS:
        return "billing-stream"
    store, commit = system.options["KSTREAMS_STORE"], system.options["KSTREAMS_COMMIT_MS"]
    return f"{store}, {commit} ms"


def _values(compared: Compared, system: Peer, key: str) -> list[float]:
    return [one[key] for one in compared.figures[system.name]]


def _median(compared: Compared, system: Peer, key: str) -> float:
    return statistics.median(_values(compared, system, key))


def _span(compared: Compared, system: Peer, key: str) -> str:
    values = _values(compared, system, key)
    middle = _text(statistics.median(values))
    return (
        middle if len(values) == 1 else f"{middle} ({_text(min(values))} to {_text(max(values))})"
    )


def _text(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}"
