"""Processes of `billing-stream` for tests, forked from one server per process of pytest."""

import asyncio
import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from pathlib import Path

_START_SECONDS_MAX = 60.0


class Process:
    """A process that was started: as much of `asyncio.subprocess.Process` as tests need."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: Future[int] = Future()

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._code.result() if self._code.done() else None

    async def wait(self) -> int:
        """Wait for the end; the exit code."""
        return await asyncio.shield(asyncio.wrap_future(self._code))

    def send_signal(self, number: int) -> None:
        """Send a signal to it."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def ended(self, code: int) -> None:
        """Set the exit code."""
        self._code.set_result(code)


class _ForkServer:
    """The client of tests.support.fork_server."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", "from tests.support.fork_server import run; run()"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            start_new_session=True,
            bufsize=0,
        )
        self._running: dict[int, Process] = {}
        self._started: Future[Process] = Future()
        self._starting = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()
        atexit.register(self._close)

    def start(
        self, arguments: Sequence[str], env: Mapping[str, str], output: Path, folder: Path
    ) -> Process:
        wanted = {
            "arguments": arguments,
            "env": dict(env),
            "output": str(output),
            "folder": str(folder),
        }
        with self._starting:
            self._started = Future()
            self._write(json.dumps(wanted).encode() + b"\n")
            return self._started.result(_START_SECONDS_MAX)

    def _write(self, line: bytes) -> None:
        assert self._server.stdin is not None
        while line:
            line = line[self._server.stdin.write(line) :]

    def _read(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            said = json.loads(line)
            if "code" in said:
                self._running.pop(said["pid"]).ended(said["code"])
            else:
                self._running[said["pid"]] = started = Process(said["pid"])
                self._started.set_result(started)

    def _close(self) -> None:
        """It kills what still runs when its input ends."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(_START_SECONDS_MAX)


@cache
def _server() -> _ForkServer:
    return _ForkServer()


def start(
    arguments: Sequence[str], env: Mapping[str, str], output: Path, folder: Path | None = None
) -> Process:
    """Start `billing-stream` with this environment alone; what it prints is added to `output`.

    `folder` is its current one: without, that of the tests.
    """
    return _server().start(arguments, env, output, folder or Path.cwd())
