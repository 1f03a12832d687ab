"""Holds one server and ends it when the process that asked for it is gone, however it ended.

    python supervise.py '[command, log, cwd, stop signal, account]'

Its standard input is a pipe; the parent holds its other end. A byte in it asks for a
graceful stop; when it closes without one the parent is gone, be it by SIGKILL, and the
server's process group is ended all the same.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

STOP_SECONDS_MAX = 15.0
# Nobody waits any more then, and the next start in the same folder should not have to.
ORPHAN_STOP_SECONDS_MAX = 3.0
_PR_SET_PDEATHSIG = 1


class Spec(NamedTuple):
    """How a server is run. `account` is the user and group, None for our own."""

    command: list[str]
    log: str
    cwd: str
    stop_signal: int
    account: tuple[int, int] | None


def end_with_parent() -> Callable[[], None] | None:
    """For `preexec_fn`: on Linux the process ends too when its parent is killed."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return before_exec


def end_group(
    pid: int, stop_signal: int, alive: Callable[[], bool], seconds_max: float = STOP_SECONDS_MAX
) -> None:
    """End a process group gracefully, and by SIGKILL when that takes too long."""
    for number, seconds in ((stop_signal, seconds_max), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not alive():
                return
            time.sleep(0.02)


def spawn(spec: Spec, *, die_with_parent: bool) -> "subprocess.Popen[bytes]":
    """Start the server of a spec in a session of its own. Raises OSError."""
    user, group = spec.account or (None, None)
    with open(spec.log, "ab") as log:
        return subprocess.Popen(
            spec.command,
            cwd=spec.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=end_with_parent() if die_with_parent else None,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )


def main() -> int:
    """Run the server until the pipe closes, the parent is gone, or the server ends."""
    spec = Spec(*json.loads(sys.argv[1]))
    parent = os.getppid()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stop = False

    def on_term(*_: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, on_term)
    server = spawn(spec, die_with_parent=True)
    print(server.pid, flush=True)
    seconds = ORPHAN_STOP_SECONDS_MAX
    # A process forked from the parent may hold the pipe open after it: hence getppid too.
    while server.poll() is None and not stop and os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin], [], [], 0.1)
        if readable:
            # A byte is a wish to stop, from a parent that waits; no byte means it is gone.
            if os.read(sys.stdin.fileno(), 1):
                seconds = STOP_SECONDS_MAX
            break
    end_group(server.pid, spec.stop_signal, lambda: server.poll() is None, seconds)
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
