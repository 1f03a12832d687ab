"""Starts processes of `billing-stream` by forking one that has imported everything.

Importing takes a second of CPU time, which a run of all tests would spend some hundred times.
Apart from that they are processes as any other: own session, environment, signals, exit code.

Reads a line of JSON per process to start ({"arguments", "env", "output", "folder"}), writes one
with its pid, and one when it ends; at the end of its input it kills those that still run.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import sys
from typing import Any

from billing_stream.__main__ import main
from billing_stream.cli import LazyGroup

ALSO_IMPORTED = ("billing_stream.worker", "billing_stream.projector.projector")


class _Forked(Exception):
    """Raised in the new process, to leave everything that belongs to the old one."""


class ForkServer:
    """The processes that were started and have not ended."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        # Unbuffered: what is read ahead would not be seen by select.
        self._input = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115

    def serve(self) -> None:
        """Serve until the end of the input. Raises _Forked in each new process."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while line := self._next_line(reader):
            self._start(json.loads(line), (reader, writer))
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _next_line(self, reader: int) -> bytes:
        while True:
            ready = select.select([0, reader], [], [])[0]
            if reader in ready:
                os.read(reader, 512)
                self._reap()
            if 0 in ready:
                return self._input.readline()

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._running.discard(pid)
            _say(pid=pid, code=os.waitstatus_to_exitcode(status))

    def _start(self, wanted: dict[str, Any], descriptors: tuple[int, int]) -> None:
        pid = os.fork()
        if pid:
            self._running.add(pid)
            _say(pid=pid)
            return
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in descriptors:
            os.close(descriptor)
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(wanted["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.chdir(wanted["folder"])
        os.environ.clear()
        os.environ.update(wanted["env"])
        sys.argv = ["billing-stream", *wanted["arguments"]]
        raise _Forked


def _say(**fields: int) -> None:
    os.write(1, json.dumps(fields).encode() + b"\n")


def _import_everything() -> None:
    for module, *_ in LazyGroup.LAZY.values():
        importlib.import_module(module)
    for module in ALSO_IMPORTED:
        importlib.import_module(module)
    # Objects that never go: not copied by the collector of a new process.
    gc.collect()
    gc.freeze()


def run() -> None:
    """Serve; in each new process, run its command and leave as it does."""
    _import_everything()
    try:
        ForkServer().serve()
    except _Forked:
        main()
