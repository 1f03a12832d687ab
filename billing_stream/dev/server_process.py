"""A server process: started under a supervisor, or detached; stopped; killed."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from billing_stream.dev import supervise
from billing_stream.dev.cache import DevError
from billing_stream.dev.supervise import STOP_SECONDS_MAX, Spec, end_group, spawn

# Below the range that the kernel gives to outgoing connections. Inside it a client that
# retries a stopped server can connect to itself and so take the port from the server.
_PORTS = range(20_000, 32_000)
_PORT_TRIES_MAX = 1_000


def free_port(taken: set[int] | None = None) -> int:
    """A TCP port on 127.0.0.1 without a listener that is not in `taken`."""
    for port in random.sample(_PORTS, _PORT_TRIES_MAX):
        if port not in (taken or ()) and is_free(port):
            return port
    raise DevError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def is_free(port: int) -> bool:
    """Whether this port of 127.0.0.1 has no listener."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class ProcessId:
    """A process that is distinguished from a later one with the same pid."""

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
    """One server process; `log` gets its output, `stop_signal` asks it to end."""

    def __init__(self, name: str, log: Path, stop_signal: int) -> None:
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        self._supervisor: subprocess.Popen[bytes] | None = None
        self.process: ProcessId | None = None

    def start(
        self,
        command: list[str],
        *,
        cwd: Path,
        account: tuple[int, int] | None = None,
        detached: bool = False,
    ) -> None:
        """Start it; detached it lives on when this process ends. Does not wait for it.

        `account` is the user and group to run under. Raises DevError when it runs already
        or the command cannot be started.
        """
        if self.alive:
            raise DevError(f"{self.name} runs already")
        self._release()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        spec = Spec(command, str(self.log), str(cwd), self._stop_signal, account)
        if detached:
            try:
                started = spawn(spec, die_with_parent=False)
            except OSError as error:
                raise DevError(f"{self.name} could not be started: {error}") from error
            self.process = ProcessId.of(started.pid)
            # It is to outlive us: keep Popen from warning that nobody waited for it.
            started.returncode = 0
            return
        self._supervisor = subprocess.Popen(
            [sys.executable, "-I", supervise.__file__, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        line = self._supervisor.stdout.readline() if self._supervisor.stdout else b""
        if not line:
            self._release()
            raise DevError(f"{self.name} could not be started: {command[0]}")
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
            # Those of PostgreSQL have groups of their own, and keep the next one from starting.
            children = psutil.Process(self.process.pid).children(recursive=True)
            os.killpg(self.process.pid, signal.SIGKILL)
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(children, timeout=5.0)
        self._wait_gone(5.0)
        self._release()

    def stop(self) -> None:
        """Stop gracefully; by SIGKILL when that takes too long. DevError when it survives."""
        self._release()
        if self.process is not None and self.process.alive:
            process = self.process
            end_group(process.pid, self._stop_signal, lambda: process.alive)
        if self.alive and self.process is not None:
            raise DevError(f"{self.name} does not end: process {self.process.pid}")

    def _release(self) -> None:
        """Ask the supervisor to end the server, and wait until it has."""
        if self._supervisor is None:
            return
        supervisor, self._supervisor = self._supervisor, None
        if supervisor.stdin:
            # The pipe is broken when server and supervisor have ended already.
            with contextlib.suppress(BrokenPipeError):
                supervisor.stdin.write(b"s")
                supervisor.stdin.flush()
            with contextlib.suppress(BrokenPipeError):
                supervisor.stdin.close()
        supervisor.wait(STOP_SECONDS_MAX + 10)
        if supervisor.stdout:
            supervisor.stdout.close()

    def _wait_gone(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.alive and time.monotonic() < end:
            time.sleep(0.02)
