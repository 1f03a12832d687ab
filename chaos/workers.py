"""Real worker processes, and what a process manager does with them: start those that end."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from billing_stream.dev.worker_process import WorkerProcess
from chaos.ports import new_port

MODULE = "billing_stream"
RESTART_SECONDS = 0.3
RESTART_SECONDS_MAX = 4.0
SHORT_LIFE_SECONDS = 5.0
TERM_SECONDS_MAX = 45.0
_SOON = aiohttp.ClientTimeout(total=2)


@dataclass(frozen=True)
class Exit:
    """The end of a process. `asked` is what we did to it: kill, term, or nothing."""

    at: float
    worker: int
    code: int
    asked: str
    lived_seconds: float
    why: str


@dataclass(frozen=True)
class Readiness:
    """What a worker says of itself."""

    ready: bool
    partitions: frozenset[int]
    problems: str = ""


class Worker:
    """One place for a worker, which is started again when it ends while it is `wanted`."""

    def __init__(
        self, number: int, env: dict[str, str], folder: Path, module: str = MODULE
    ) -> None:
        self.number = number
        self.exits: list[Exit] = []
        self.starts = 0
        self.wanted = False
        command = [sys.executable, "-m", module, "worker"]
        self._process = WorkerProcess(env, folder, new_port(), command)
        self.url = self._process.url
        self._asked = ""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process.running else None

    def want(self, wanted: bool) -> None:
        """From now on it shall run, or not be started any more."""
        self.wanted = wanted
        self._changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._supervise(), name=f"worker-{self.number}")

    def kill(self) -> bool:
        """SIGKILL; whether there was a process."""
        return self._signal(signal.SIGKILL, "kill")

    def term(self) -> bool:
        """SIGTERM; whether there was a process."""
        return self._signal(signal.SIGTERM, "term")

    def pause(self) -> bool:
        """SIGSTOP; whether there was a process."""
        return self._signal(signal.SIGSTOP, "")

    def resume(self) -> bool:
        """SIGCONT; whether there was a process."""
        return self._signal(signal.SIGCONT, "")

    async def leave(self, seconds: float = TERM_SECONDS_MAX) -> int | None:
        """SIGTERM and stay away; the exit code, None when there was no process."""
        self.want(False)
        if not self.term():
            return None
        try:
            return await asyncio.wait_for(self._process.process.wait(), seconds)
        except TimeoutError:
            self.kill()
            return await self._process.process.wait()

    async def close(self) -> None:
        """Kill it and supervise no more."""
        self.wanted = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._process.kill()

    async def readiness(self, session: aiohttp.ClientSession) -> Readiness:
        """Ask `/ready`."""
        if self.pid is None:
            return Readiness(False, frozenset(), "not running")
        try:
            async with session.get(f"{self.url}/ready", timeout=_SOON) as response:
                body = await response.json()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Readiness(False, frozenset(), type(error).__name__)
        told: dict[str, Any] = body.get("data") or (body.get("error") or {}).get("details") or {}
        owned = frozenset(one["partition"] for one in told.get("partitions", ()))
        return Readiness(response.status == 200, owned, "; ".join(told.get("problems", ())))

    def _signal(self, number: int, asked: str) -> bool:
        pid = self.pid
        if pid is None:
            return False
        self._asked = asked or self._asked
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return True

    async def _supervise(self) -> None:
        pause = RESTART_SECONDS
        while True:
            self._changed.clear()
            if not self.wanted:
                await self._changed.wait()
                continue
            lived = await self._run_once()
            pause = (
                min(RESTART_SECONDS_MAX, pause * 2)
                if lived < SHORT_LIFE_SECONDS and not self._asked
                else RESTART_SECONDS
            )
            if self.wanted:
                await asyncio.sleep(pause)

    async def _run_once(self) -> float:
        began, self._asked = time.monotonic(), ""
        await self._process.start()
        self.starts += 1
        code = await self._process.process.wait()
        lived = time.monotonic() - began
        why = "" if self._asked == "kill" else self._last_words()
        self.exits.append(Exit(time.time(), self.number, code, self._asked, lived, why))
        return lived

    def _last_words(self) -> str:
        """The line that says why it ended."""
        lines = self._process.tail().splitlines()
        marks = ("[CRITICAL", "billing-stream: ", "Error: ")
        found = [n for n, line in enumerate(lines) if any(mark in line for mark in marks)]
        if not found:
            return lines[-1][:200] if lines else ""
        cause = next((x for x in reversed(lines[found[-1] :]) if x and x[0] not in " \t"), "")
        return f"{lines[found[-1]][:160]} | {cause[:160]}"
