"""`python -m bench.plots FILE ...`: plots of measured figures, as SVG in docs/plots/.

The files are what `python -m bench`, `bench.peers` and `bench.compare` wrote with `--json`;
what they do not hold is not drawn.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterable
from html import escape
from itertools import pairwise
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "plots"
OURS, OTHER, SECOND, GRID, INK = "#2563a8", "#9aa5b1", "#c2571a", "#d9dee3", "#22303c"
WIDTH = 720
RECOVERY_GOAL = 100_000

CrashPoint = tuple[float, float]
Draw = Callable[[dict[str, Any]], str | None]
"""Draws what a file has of it: SVG, or None."""


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 13) -> str:
    """Words at a place."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def line(a: CrashPoint, b: CrashPoint, colour: str = GRID, dashes: str = "") -> str:
    """A line from one point to another."""
    return (
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" '
        f'stroke="{colour}" stroke-dasharray="{dashes}"/>'
    )


def svg(title: str, height: float, parts: Iterable[str]) -> str:
    """A whole picture, on white so that it can be read on a dark page too."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
            f'role="img" font-family="system-ui, sans-serif" fill="{INK}">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
            text(16, 26, title, size=16),
            *parts,
            "</svg>",
            "",
        ]
    )


def bars(title: str, rows: list[tuple[str, list[float], str]], goal: float | None = None) -> str:
    """A bar for each row's median, with its least and greatest; (label, figures, colour)."""
    left, right, step = 300.0, WIDTH - 90.0, 34.0
    most = max(max(figures) for _, figures, _ in rows)
    most = max(most, goal or 0.0)

    def at(figure: float) -> float:
        return left + (right - left) * figure / most

    bottom = 44 + step * len(rows)
    parts = []
    for number, (label, figures, colour) in enumerate(rows):
        y, middle = 44 + step * number, statistics.median(figures)
        parts.append(text(left - 10, y + 18, label, "end"))
        parts.append(
            f'<rect x="{left}" y="{y + 3:.1f}" width="{at(middle) - left:.1f}" height="22" '
            f'fill="{colour}"/>'
        )
        parts.append(line((at(min(figures)), y + 14), (at(max(figures)), y + 14), INK))
        parts.append(text(at(max(figures)) + 6, y + 18, f"{middle:,.0f}"))
    if goal is not None:
        parts.append(line((at(goal), 40), (at(goal), bottom + 4), SECOND, "5 4"))
        parts.append(text(at(goal), bottom + 18, f"goal {goal:,.0f}", "middle", 12))
    note = "median; the thin line from the least to the most of the rounds"
    parts.append(text(16, bottom + 38, note, size=12))
    return svg(title, bottom + 50, parts)


def curve(
    title: str, labels: tuple[str, str], series: dict[str, list[CrashPoint]], *, logarithmic: bool
) -> str:
    """Lines through points; `labels` are those of the x and the y axis."""
    left, top, right, bottom = 70.0, 50.0, WIDTH - 90.0, 330.0
    points = [point for found in series.values() for point in found]
    x_most = max(x for x, _ in points)
    low, high = (0.0, max(y for _, y in points) * 1.05)
    if logarithmic:
        low = 10.0 ** floor(log10(min(y for _, y in points)))
        high = 10.0 ** ceil(log10(high))

    def share(y: float) -> float:
        if logarithmic:
            return log10(max(y, low) / low) / log10(high / low)
        return (y - low) / (high - low)

    def at(point: CrashPoint) -> CrashPoint:
        x, y = point
        return left + (right - left) * x / x_most, bottom - (bottom - top) * share(y)

    parts = []
    for tick in _ticks(low, high, logarithmic=logarithmic):
        y = at((0, tick))[1]
        parts += [line((left, y), (right, y)), text(left - 8, y + 4, _number(tick), "end", 12)]
    for x in {x for found in series.values() for x, _ in found}:
        parts.append(line(at((x, low)), (at((x, low))[0], bottom + 5), INK))
    for tick in _ticks(0.0, x_most, logarithmic=False):
        parts.append(text(at((tick, low))[0], bottom + 20, f"{tick:,.0f}", "middle", 12))
    parts.append(text((left + right) / 2, bottom + 40, labels[0], "middle"))
    parts.append(text(left, top - 8, labels[1], "middle", 12))
    for colour, (name, found) in zip((OURS, SECOND, OTHER), series.items(), strict=False):
        placed = [at(point) for point in sorted(found)]
        parts += [
            f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}" '
            f'fill="none" stroke="{colour}" stroke-width="2"/>'
        ]
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        parts.append(text(placed[-1][0] + 8, placed[-1][1] + 4, name))
    return svg(title, bottom + 56, parts)


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 10 or figure == int(figure) else f"{figure:g}"


def _ticks(low: float, high: float, *, logarithmic: bool) -> list[float]:
    if logarithmic:
        return [10.0**n for n in range(round(log10(low)), round(log10(high)) + 1)]
    if high <= 0:
        return [0.0]
    rough = high / 5
    step = 10.0 ** floor(log10(rough))
    step *= next(m for m in (1, 2, 5, 10) if m * step >= rough)
    return [step * n for n in range(int(high / step) + 1)]


def throughput(found: dict[str, Any]) -> str | None:
    """Bars of all systems, the fastest first."""
    systems = found.get("throughput", {})
    rows = [
        (each["title"], each["records_per_s"], OURS if name == "ours" else OTHER)
        for name, each in systems.items()
        if isinstance(each, dict)
    ]
    rows.sort(key=lambda row: -statistics.median(row[1]))
    return bars("Webhook records per second, one process", rows) if rows else None


def latency(found: dict[str, Any]) -> str | None:
    """p50 and p99 of ours over the load."""
    steps = [step for rounds in found.get("curve", {}).values() for step in rounds]
    if not steps:
        return None
    series = {
        name: [(step["per_second"], step[f"{name}_ms"]) for step in steps]
        for name in ("p50", "p99")
    }
    labels = ("webhook records per second", "ms")
    title = "From a webhook record to its committed event, over the load"
    return curve(title, labels, series, logarithmic=True)


def commit_intervals(found: dict[str, Any]) -> str | None:
    """p99 of ours and of Quix Streams at each commit interval."""
    rows = [
        (f"{name}, {which}", [r[f"{which}_ms"] for r in rounds], OURS if name == "ours" else OTHER)
        for name, rounds in found.get("latency", {}).items()
        for which in ("p50", "p99")
    ]
    title = "From a webhook record to its committed event, ms, at 1,000 records/s"
    return bars(title, rows) if rows else None


def recovery(found: dict[str, Any]) -> str | None:
    """Seconds over changelog records, or records per second when all are of one size."""
    runs = found.get("recovery") or []
    single = found.get("throughput", {}).get("restored_per_s")
    sizes = sorted({round(run["records"], -4) for run in runs})
    if len(sizes) > 1 and any(b > 1.5 * a for a, b in pairwise(sizes)):
        points = [(run["records"], run["seconds"]) for run in runs]
        labels = ("changelog records", "seconds")
        return curve("Recovery", labels, {"restore": points}, logarithmic=False)
    rates = [run["records"] / run["seconds"] for run in runs] or ([single] if single else [])
    if not rates:
        return None
    rows = [("billing-stream", rates, OURS)]
    return bars("Recovery, changelog records per second", rows, RECOVERY_GOAL)


def scale(found: dict[str, Any]) -> str | None:
    """Bars of the CPU per record over partitions and merchants."""
    rows = [
        (name.removeprefix("scale "), [figures["cpu_us_per_record"]], OURS)
        for name, figures in found.items()
        if name.startswith("scale ") and "cpu_us_per_record" in figures
    ]
    return bars("Microseconds of the worker's CPU per webhook record", rows) if rows else None


def _releases(what: str, title: str, goal: float | None = None) -> Draw:
    """Bars of one figure of each revision that was compared."""

    def draw(found: dict[str, Any]) -> str | None:
        # A file of bench.compare has figures by what was measured, then by revision.
        by_name = found.get(what, {})
        rows = [(name, each, OURS if name == "now" else OTHER) for name, each in by_name.items()]
        return bars(f"{title}, release beside release", rows, goal) if rows else None

    return draw


PLOTS: dict[str, Draw] = {
    "throughput": throughput,
    "latency": latency,
    "commit-intervals": commit_intervals,
    "recovery": recovery,
    "scale": scale,
    "releases": _releases("records_per_s", "Webhook records per second"),
    "releases-recovery": _releases(
        "restored_per_s", "Recovery, changelog records per second", RECOVERY_GOAL
    ),
    "releases-p50": _releases("p50_ms", "From a webhook record to its event, p50 in ms"),
    "releases-p99": _releases("p99_ms", "From a webhook record to its event, p99 in ms"),
}


def main() -> None:
    """Draw what the files hold."""
    parser = argparse.ArgumentParser(prog="python -m bench.plots", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for file in arguments.files:
        found = json.loads(file.read_text())
        for name, draw in PLOTS.items():
            picture = draw(found)
            if picture is not None:
                target = arguments.folder / f"{name}.svg"
                target.write_text(picture)
                print(f"{file} -> {target}")


if __name__ == "__main__":
    main()
