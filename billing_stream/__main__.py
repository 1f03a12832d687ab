"""The console script. What must be so before anything heavy is loaded."""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

SERVICES = ("worker", "projector")


def main() -> None:
    """Run the command line."""
    handle_signals(sys.argv[1:])
    from billing_stream.cli import main as run

    run()


def handle_signals(arguments: Sequence[str]) -> None:
    """Have a service that is stopped before it has begun end with 0, as it does later.

    Later the services have handlers of their own. Nothing was written or joined until then.
    """
    if len(arguments) == 1 and arguments[0] in SERVICES:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end_well)
    elif os.getpid() == 1:
        # In a container: process 1 has no default action, and could not be ended by SIGTERM.
        signal.signal(signal.SIGTERM, _end_by_signal)


def _end_well(number: int, frame: FrameType | None) -> None:
    # Not sys.exit: an import under way, or a library, could catch what it raises.
    os._exit(0)


def _end_by_signal(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
