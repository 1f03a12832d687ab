"""`make bench-compare REV=...`: the workers of other revisions and ours of now, in turn.

Each other revision runs from a git worktree of its own, on the same broker, under the bench
code of now: only what the worker does may differ.
"""

import argparse
import asyncio
import json
import logging
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import latency, throughput
from bench.__main__ import broker, fresh
from bench.setting import Setting, machine, say
from bench.verified import verified

ROOT = Path(__file__).parents[1]
PARTITIONS = 8
NOW = "now"
# The folder comes before the one that the environment's own link to the project leads to.
START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1));"
    "runpy.run_module('billing_stream.cli', run_name='__main__', alter_sys=True)"
)

VERSION = re.compile(r'__version__ = "(.+)"')

Figures = dict[str, float]
Part = Callable[[Setting, list[str], argparse.Namespace], Awaitable[Figures]]


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument(
        "revisions", nargs="+", metavar="REV", help="what git calls it: HEAD~3, a tag, …"
    )
    parser.add_argument("--only", choices=sorted(PARTS), help="one part")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--records", type=int, default=200_000, help="webhooks a run")
    parser.add_argument("--seconds", type=int, default=20, help="of latency, warm-up apart")
    parser.add_argument("--kafka", default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


async def _throughput(
    setting: Setting, command: list[str], arguments: argparse.Namespace
) -> Figures:
    records = arguments.records
    figures = await throughput.measure(setting, max(1, records // 10), records, command)
    return {what: figure for what, figure in figures.items() if what != "restored"}


async def _latency(setting: Setting, command: list[str], arguments: argparse.Namespace) -> Figures:
    found = await latency.measure(setting, 1_000, arguments.seconds, command)
    return {name: found[name] for name in ("p50_ms", "p99_ms", "worker_cpu_us", "broker_cpu_us")}


PARTS: dict[str, Part] = {"throughput": _throughput, "latency": _latency}


@contextmanager
def worktree(revision: str) -> Iterator[tuple[str, Path]]:
    """The revision checked out in a folder of its own: its version and short name, the folder.

    Raises RuntimeError when git knows no such revision.
    """
    name = _git("rev-parse", "--short", "--verify", f"{revision}^{{commit}}")
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-compare-"))
    try:
        _git("worktree", "add", "--detach", str(folder / name), name)
        yield f"{_version(folder / name)} ({name})", folder / name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _git("worktree", "prune")


def _version(sources: Path) -> str:
    found = VERSION.search((sources / "billing_stream" / "__init__.py").read_text())
    return found[1] if found else "?"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def command_of(folder: Path) -> list[str]:
    """How the worker of the sources in this folder is started."""
    # -P: not the current folder's sources.
    return [sys.executable, "-P", "-c", START, str(folder), "worker"]


async def run(
    arguments: argparse.Namespace, kafka: str, folder: Path, commands: dict[str, list[str]]
) -> dict[str, dict[str, list[float]]]:
    """Measure both in turn; figures by what was measured, then by revision."""
    found: dict[str, dict[str, list[float]]] = {}
    for part in [arguments.only] if arguments.only else sorted(PARTS, reverse=True):
        for number in range(arguments.rounds):
            for name, command in commands.items():
                async with fresh(kafka, folder, PARTITIONS) as setting:
                    figures = await PARTS[part](setting, command, arguments)
                    # What the other one wrote is not for the verifier of now to judge.
                    if name == NOW and not await verified(setting):
                        raise RuntimeError("what the worker of now left behind is not right")
                say(f"-> round {number + 1}, {name}: {figures}")
                for what, figure in figures.items():
                    found.setdefault(what, {}).setdefault(name, []).append(figure)
    return found


def print_table(found: dict[str, dict[str, list[float]]]) -> None:
    """Medians, least and most, and the ratio of now to then."""
    for what, by_name in found.items():
        print(f"\n{what:60} now / then")
        now = statistics.median(by_name[NOW])
        for name, figures in by_name.items():
            then = statistics.median(figures)
            span = f"({_text(min(figures))} to {_text(max(figures))})"
            ratio = "" if name == NOW else f"{now / then:.2f}"
            print(f"  {name:20} {_text(then):>9} {span:28} {ratio:>9}")


def _text(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}"


def main() -> None:
    """Compare, print, and write JSON where asked to."""
    arguments = options()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-bench-"))
    try:
        with (
            ExitStack() as worktrees,
            broker(arguments.kafka, folder) as kafka,
        ):
            then = [worktrees.enter_context(worktree(each)) for each in arguments.revisions]
            commands = {name: command_of(sources) for name, sources in then}
            commands[NOW] = command_of(ROOT)
            found = asyncio.run(run(arguments, kafka, folder, commands))
    except RuntimeError as error:
        print(f"bench.compare: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(machine())
    print_table(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
