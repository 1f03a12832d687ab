"""Stops workers and projectors at random moments of their first seconds.

python -m tests.stops --seeds 200
python -m tests.stops --seed 4711
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.stops.moments import plan_of
from tests.stops.stage import Outcome, Stage
from tests.support.servers import broker, database


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 when a process was killed, ended with an error or took too long."""
    parser = argparse.ArgumentParser(prog="python -m tests.stops", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many (200)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--seed", type=int, help="only this one")
    options = parser.parse_args(arguments)
    seeds = range(options.first, options.first + options.seeds)
    if options.seed is not None:
        seeds = range(options.seed, options.seed + 1)
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-stops-"))
    with broker("embedded", folder) as kafka, database("embedded") as postgres:
        outcomes = asyncio.run(_run(kafka, postgres, folder, seeds))
    failed = [outcome for outcome in outcomes if outcome.problem]
    if failed:
        print(f"logs are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed or not outcomes else 0


async def _run(kafka: str, postgres: str, folder: Path, seeds: range) -> list[Outcome]:
    began = time.monotonic()
    outcomes: list[Outcome] = []
    async with Stage(kafka, postgres, "stops.", folder).open() as stage:
        for seed in seeds:
            for outcome in await stage.run(plan_of(seed)):
                outcomes.append(outcome)
                print(outcome, flush=True)
                if outcome.problem:
                    (folder / f"seed-{seed}.log").write_text(outcome.log)
            if not stage.stays.running:
                raise RuntimeError(f"the worker beside them has ended:\n{stage.stays.tail()}")
    failed = sum(bool(outcome.problem) for outcome in outcomes)
    seconds = sorted(outcome.seconds for outcome in outcomes)
    print(
        f"{len(seeds)} seeds, {len(outcomes)} stops: {failed} failed; the end came after "
        f"{median(seconds):.1f} s (median), {seconds[-1]:.1f} s at most; "
        f"{time.monotonic() - began:.0f} s"
    )
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
