"""Sends batches of every shape to a worker on a real broker.

python -m tests.fuzzing --records 100000
python -m tests.fuzzing --seed 4711
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzzing.run import fuzz
from tests.support.servers import broker


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 when the worker ended, or a record became what it must not."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="how many (100,000)")
    parser.add_argument("--seed", type=int, help="of an earlier run (a new one)")
    options = parser.parse_args(arguments)
    seed = random.randrange(1 << 31) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-fuzzing-"))
    began = time.monotonic()

    def progress(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)

    progress(f"seed {seed}; logs are in {folder}")
    with broker("embedded", folder) as kafka:
        made = fuzz(kafka, "fuzz.", folder, records=options.records, seed=seed, progress=progress)
        result = asyncio.run(made)
    for problem in result.problems:
        print(f"PROBLEM: {problem}")
    progress(str(result))
    if not result.problems:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if result.problems or not result.sent.records else 0


if __name__ == "__main__":
    sys.exit(main())
