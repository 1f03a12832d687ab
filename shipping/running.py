"""Commands in a confinement: to their end, or as a worker until it is told to stop."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from billing_stream.dev.server_process import free_port
from shipping.confined import Confinement


class ConfinedWorker:
    """A worker that runs; its output is in `log`."""

    def __init__(
        self, process: asyncio.subprocess.Process, confinement: Confinement, port: int, log: Path
    ) -> None:
        self._process = process
        self._confinement = confinement
        self.port = port
        self.log = log

    @property
    def uid(self) -> int:
        """The user it runs as. Raises psutil.NoSuchProcess when it has ended."""
        return self._itself().uids().real

    async def ready(self, seconds: float = 60.0) -> bool:
        """Whether the image's own health check finds it ready in time."""
        probe = [
            sys.executable,
            "-m",
            "billing_stream.observability.probe",
            "ready",
            "--port",
            str(self.port),
        ]
        for _ in range(int(seconds * 2)):
            if self._process.returncode is not None:
                return False
            asked = await asyncio.create_subprocess_exec(*probe, stderr=asyncio.subprocess.DEVNULL)
            if await asked.wait() == 0:
                return True
            await asyncio.sleep(0.5)
        return False

    async def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM to the worker itself, and its exit code."""
        if self._process.returncode is None:
            self._itself().send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), seconds)

    async def kill(self) -> None:
        """SIGKILL to all of it, and wait for the end."""
        if self._process.returncode is None:
            started = psutil.Process(self._process.pid)
            for one in [*started.children(), started]:
                one.kill()
            await self._process.wait()

    def output(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-4000:]

    def _itself(self) -> psutil.Process:
        """Process 1 of its own namespace is the one child of the process that we started."""
        started = psutil.Process(self._process.pid)
        if not self._confinement.is_process_one:
            return started
        (child,) = started.children()
        return child


class Confined:
    """Runs commands of `bin_` with this environment, and no more than the confinement lets them."""

    def __init__(self, confinement: Confinement, env: Mapping[str, str], bin_: Path) -> None:
        self._confinement = confinement
        self._env = dict(env)
        self._bin = bin_

    async def finished(self, command: str, *arguments: str) -> tuple[int, str]:
        """Run to the end: exit code and output."""
        process = await asyncio.create_subprocess_exec(
            *self._confinement.prefix,
            str(self._bin / command),
            *arguments,
            env=self._env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    @asynccontextmanager
    async def worker(self, folder: Path) -> AsyncIterator[ConfinedWorker]:
        """A worker, started and not yet ready; killed at the end, whatever happened."""
        port = free_port()
        log = folder.parent / "worker.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self._confinement.prefix,
                str(self._bin / "billing-stream"),
                "worker",
                env={**self._env, "BILLING_API_EXTERNAL_PORT": str(port)},
                stdout=output,
                stderr=output,
            )
        started = ConfinedWorker(process, self._confinement, port, log)
        try:
            yield started
        finally:
            await started.kill()
