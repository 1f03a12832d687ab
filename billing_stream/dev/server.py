"""A server process: started under a supervisor, or detached; stopped; killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from billing_stream.dev.cache import DevError
from billing_stream.dev.supervise import STOP_SECONDS_MAX, end_group, spawn


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class ProcessId:
    """A process that can be told from a later one with the same pid."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The running process with this pid, or None."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return cls(pid, process.create_time())
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        """Whether it is still this very process."""
        now = ProcessId.of(self.pid)
        return now is not None and abs(now.created - self.created) < 1.0


class Server:
    """One server. `spec` names command, log, cwd, user, group and stop_signal."""

    def __init__(self, name: str, spec: dict[str, Any]) -> None:
        self.name = name
        self._spec = spec
        self._supervisor: subprocess.Popen[bytes] | None = None
        self.process: ProcessId | None = None

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return Path(self._spec["log"])

    def start(self, *, detached: bool) -> None:
        """Start it; detached it lives on when this process ends."""
        if detached:
            # Twice removed: a child of ours would stay a zombie, and a shell would wait.
            started = spawn(self._spec, die_with_parent=False)
            self.process = ProcessId.of(started.pid)
            started.returncode = 0
            return
        self._supervisor = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "billing_stream.dev.supervise",
                json.dumps(self._spec),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        line = self._supervisor.stdout.readline() if self._supervisor.stdout else b""
        if not line:
            raise DevError(f"{self.name} could not be started; its log: {self.log}")
        self.process = ProcessId.of(int(line))

    @property
    def alive(self) -> bool:
        """Whether the server process runs."""
        return self.process is not None and self.process.alive

    def require_alive(self) -> None:
        """Raise DevError, with the end of the log, when the server has ended."""
        if not self.alive:
            raise DevError(f"{self.name} ended; the end of {self.log}:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def kill(self) -> None:
        """SIGKILL, as a machine that lost its power."""
        if self.process is not None and self.process.alive:
            os.killpg(self.process.pid, signal.SIGKILL)
        self._wait_gone(5.0)
        self._release()

    def stop(self) -> None:
        """Stop gracefully; by SIGKILL when that takes too long."""
        if self._supervisor is None:
            if self.process is not None and self.process.alive:
                process = self.process
                end_group(process.pid, self._spec["stop_signal"], lambda: process.alive)
            return
        self._release()

    def _release(self) -> None:
        if self._supervisor is None:
            return
        supervisor, self._supervisor = self._supervisor, None
        if supervisor.stdin:
            supervisor.stdin.close()
        supervisor.wait(STOP_SECONDS_MAX + 10)
        if supervisor.stdout:
            supervisor.stdout.close()

    def _wait_gone(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.alive and time.monotonic() < end:
            time.sleep(0.02)
