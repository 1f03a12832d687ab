"""Runs seeds of the simulation, or one of them again with its trace.

python -m tests.simulation --seeds 10000
python -m tests.simulation --seed 4711 --trace
"""

import argparse
import sys
import time
from collections.abc import Sequence

from tests.simulation.run import Result, run, run_many

PROBLEM_CHARACTERS = 600


def command_of(seed: int) -> str:
    """What replays a seed."""
    return f"python -m tests.simulation --seed {seed} --trace"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 when a seed fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many (500)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="print what happened in it")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _one(options.seed, options.trace)
    return _many(options.first, options.seeds)


def _one(seed: int, trace: bool) -> int:
    found = run(seed)
    if trace:
        print("\n".join(found.trace))
    print(f"seed {seed}: {found.problem or 'as it must be'}")
    return 1 if found.problem else 0


def _many(first: int, count: int) -> int:
    began = time.monotonic()
    failed: list[Result] = []
    done = commits = 0
    for found in run_many(range(first, first + count)):
        done += 1
        commits += found.commits
        if found.problem:
            failed.append(found)
            _clear_line()
            print(f"seed {found.seed}: {found.problem[:PROBLEM_CHARACTERS]}")
            print(f"    {command_of(found.seed)}", flush=True)
        _show_progress(done, count, len(failed))
    _clear_line()
    seconds = time.monotonic() - began
    print(
        f"{done} seeds from {first} on: {len(failed)} failed, "
        f"{commits} transactions, {seconds:.0f} s"
    )
    return 1 if failed else 0


def _show_progress(done: int, count: int, failed: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done} of {count} seeds, {failed} failed")
        sys.stderr.flush()


def _clear_line() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")


if __name__ == "__main__":
    sys.exit(main())
