"""Holds one server and ends it when whoever asked for it is gone, however it went.

    python -m billing_stream.dev.supervise '{"command": [...], ...}'

Its standard input is a pipe whose other end the parent holds. When the pipe closes, be it
by a graceful stop or by SIGKILL of the parent, the server's process group is ended.
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
from typing import Any

STOP_SECONDS_MAX = 15.0
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux the server ends too when this process itself is killed."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return before_exec


def end_group(pid: int, stop_signal: int, alive: Callable[[], bool]) -> None:
    """End a process group gracefully, and by SIGKILL when that takes too long."""
    for number, seconds in ((stop_signal, STOP_SECONDS_MAX), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not alive():
                return
            time.sleep(0.02)


def spawn(spec: dict[str, Any], *, die_with_parent: bool) -> "subprocess.Popen[bytes]":
    """Start the server of a spec: command, log, cwd, user (or None)."""
    with open(spec["log"], "ab") as log:
        return subprocess.Popen(
            spec["command"],
            cwd=spec["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent() if die_with_parent else None,
            **(
                {"user": spec["user"], "group": spec["group"], "extra_groups": []}
                if spec.get("user") is not None
                else {}
            ),
        )


def main() -> int:
    """Run the server until the pipe closes or the server ends."""
    spec = json.loads(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stop = False

    def on_term(*_: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, on_term)
    server = spawn(spec, die_with_parent=True)
    print(server.pid, flush=True)
    while server.poll() is None and not stop:
        readable, _, _ = select.select([sys.stdin], [], [], 0.1)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
    end_group(server.pid, spec["stop_signal"], lambda: server.poll() is None)
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
