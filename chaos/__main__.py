"""`python -m chaos run`, `python -m chaos late` and `python -m chaos soak`."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from chaos import late
from chaos.late_report import VERSIONS
from chaos.plan import KINDS, KINDS_OF_THREE
from chaos.run import run
from chaos.soak import soak
from chaos.stage import quiet


def _kinds(text: str) -> list[str]:
    found = [kind.strip() for kind in text.split(",") if kind.strip()]
    known = (*KINDS, *KINDS_OF_THREE)
    unknown = set(found) - set(known)
    if unknown:
        raise argparse.ArgumentTypeError(f"none of {', '.join(known)}: {', '.join(unknown)}")
    return found


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="faults under load, then verify")
    one.add_argument("--minutes", type=float, default=10.0)
    one.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    one.add_argument(
        "--only",
        type=_kinds,
        default=[],
        help=f"a list of: {', '.join(KINDS)}; with three brokers: {', '.join(KINDS_OF_THREE)}",
    )
    one.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    one.add_argument(
        "--session-ms", type=int, help="broker.session.timeout.ms of three brokers (9000)"
    )
    one.add_argument("--load", type=float, help="records per second (100; three brokers: 30)")
    one.add_argument("--http", type=float, help="requests per second (8; three brokers: 2)")
    two = commands.add_parser("soak", help="steady load for long; is anything growing?")
    two.add_argument("--minutes", type=float, default=60.0)
    two.add_argument("--per-second", type=int, default=1000, help="records per second")
    two.add_argument("--http", type=float, default=10.0, help="requests per second")
    three = commands.add_parser("late", help="requests that arrive late, one at a time")
    three.add_argument("--tries", type=int, default=17, help="for each cell")
    three.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    three.add_argument(
        "--only", nargs="*", default=[], metavar="KIND[:MOMENT]", help="cells, e.g. end-txn:next"
    )
    three.add_argument(
        "--versions", type=int, nargs="*", default=VERSIONS, help="transaction.version of clusters"
    )
    for command in (one, two, three):
        command.add_argument("--json", type=Path, help="write the figures to this file")
        command.add_argument("--folder", type=Path, help="keep data and logs there")
    found = parser.parse_args()
    if found.command == "run":
        load, http = (100.0, 8.0) if found.brokers == 1 else (30.0, 2.0)
        found.load = load if found.load is None else found.load
        found.http = http if found.http is None else found.http
    return found


def main() -> None:
    """Run it; exit code 0 good, 1 a fault was found, 3 the run is invalid."""
    arguments = options()
    quiet()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="billing-stream-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"python -m chaos {' '.join(sys.argv[1:])}", flush=True)
    if arguments.command == "run":
        print(f"seed {arguments.seed}; logs of the workers in {folder}", flush=True)
    code = 1
    try:
        work = {"run": run, "soak": soak, "late": late.run}[arguments.command]
        code = asyncio.run(work(arguments, folder))
    finally:
        # What went wrong is in the logs.
        if arguments.folder is None and code == 0:
            shutil.rmtree(folder, ignore_errors=True)
        elif code:
            print(f"logs: {folder}", flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
