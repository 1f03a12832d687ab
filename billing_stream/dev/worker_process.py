"""One process of `billing-stream` under observation: start, wait until ready, pause, kill, stop."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import aiohttp

from billing_stream.dev.supervise import end_with_parent

COMMAND = (sys.executable, "-m", "billing_stream")
READY_SECONDS_MAX = 40.0
STOP_SECONDS_MAX = 20.0
TAIL_BYTES = 20_000
_SHORT = aiohttp.ClientTimeout(total=2)


async def run_command(env: Mapping[str, str], *arguments: str) -> str:
    """Run `billing-stream` to its end; what it printed. RuntimeError when it fails."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{(errors or out).decode().rstrip()}")
    return out.decode().strip()


class Running(Protocol):
    """As much of `asyncio.subprocess.Process` as is needed."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""

    async def wait(self) -> int:
        """Wait for the end; the exit code."""


class WorkerProcess:
    """A worker on a port and in a data folder of its own, again and again. `log` has its output."""

    def __init__(
        self,
        env: Mapping[str, str],
        folder: Path,
        port: int,
        command: Sequence[str] = (*COMMAND, "worker"),
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.command = list(command)
        what = "projector" if self.command[-1] == "projector" else "worker"
        self.log = folder / f"{what}-{port}.log"
        self.env = {
            **env,
            # Each start is on the same port: a static member that comes back under another URL
            # within the session timeout is not taken.
            "BILLING_API_EXTERNAL_PORT": str(port),
            "BILLING_API_BIND": "127.0.0.1",
            # Workers next to each other must not share it.
            "BILLING_DATA_DIR": str(folder / f"data-{port}"),
        }
        self._process: Running | None = None

    @property
    def process(self) -> Running:
        """The process, which may have ended. Raises RuntimeError when it was never started."""
        if self._process is None:
            raise RuntimeError("the worker was not started")
        return self._process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._process is not None

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, in a session of its own. Raises RuntimeError when it runs already."""
        if self.running:
            raise RuntimeError("the worker runs already")
        self._process = await self._spawn()

    async def _spawn(self) -> Running:
        with self.log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *self.command,
                env=self.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )

    async def ready(self, seconds: float = READY_SECONDS_MAX) -> None:
        """Wait until `/ready` says so. Raises RuntimeError with its log when it does not."""
        await self._answering(seconds, lambda status: status == 200)

    async def answers(self, seconds: float = READY_SECONDS_MAX) -> None:
        """Wait until it answers at all, and so has its handlers of signals; else as `ready`."""
        await self._answering(seconds, lambda status: True)

    async def logged(self, text: str, seconds: float = READY_SECONDS_MAX) -> None:
        """Wait until its log has this text; else as `ready`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            # Asked first: what it wrote last was written before it ended.
            running = self.running
            if text in self.text():
                return
            if not running:
                break
            await asyncio.sleep(0.02)
        raise RuntimeError(f"the log has no {text!r} ({self._state()}):\n{self.tail()}")

    async def _answering(self, seconds: float, good: Callable[[int], bool]) -> None:
        end = time.monotonic() + seconds
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < end and self.running:
                try:
                    async with session.get(f"{self.url}/ready", timeout=_SHORT) as response:
                        if good(response.status):
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.1)
        raise RuntimeError(f"the worker did not get ready ({self._state()}):\n{self.tail()}")

    def require_alive(self) -> None:
        """Raises RuntimeError, with the end of its log, when it has ended by itself."""
        if not self.running:
            raise RuntimeError(f"the worker does not run ({self._state()}):\n{self.tail()}")

    def text(self) -> str:
        """The whole log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self) -> str:
        """The end of the log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def pause(self) -> None:
        """SIGSTOP: the process is frozen and does not notice."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.running:
            self.signal(signal.SIGKILL)
            await self.process.wait()

    async def stop(self, seconds: float = STOP_SECONDS_MAX) -> int:
        """SIGTERM, and wait for the end; the exit code. Raises TimeoutError."""
        if self.running:
            self.signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), seconds)

    def _state(self) -> str:
        return "it runs" if self.running else f"it ended with {self.process.returncode}"
