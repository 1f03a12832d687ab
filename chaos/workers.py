"""Real worker processes, and what a process manager does with them: start those that end."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from chaos.ports import new_port

MODULE = "billing_stream"
RESTART_SECONDS = 0.3
RESTART_SECONDS_MAX = 4.0
SHORT_LIFE_SECONDS = 5.0
TERM_SECONDS_MAX = 45.0
_SOON = aiohttp.ClientTimeout(total=2)
_PR_SET_PDEATHSIG = 1


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


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Worker:
    """One place for a worker: a port, a data folder, a log. `wanted` is whether it shall run."""

    def __init__(
        self, number: int, env: dict[str, str], folder: Path, module: str = MODULE
    ) -> None:
        self.number = number
        self.port = new_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"worker-{number}.log"
        self.exits: list[Exit] = []
        self.starts = 0
        self.wanted = False
        self._command = [sys.executable, "-m", module, "worker"]
        self._env = {
            **env,
            "BILLING_API_EXTERNAL_PORT": str(self.port),
            "BILLING_API_BIND": "127.0.0.1",
            "BILLING_DATA_DIR": str(folder / f"data-{number}"),
        }
        self._process: asyncio.subprocess.Process | None = None
        self._asked = ""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

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
        process = self._process
        if not self.term() or process is None:
            return None
        try:
            return await asyncio.wait_for(process.wait(), seconds)
        except TimeoutError:
            self.kill()
            return await process.wait()

    async def close(self) -> None:
        """Kill it and supervise no more."""
        self.wanted = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

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
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._env,
                stdout=output,
                stderr=output,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self.starts += 1
        code = await self._process.wait()
        lived = time.monotonic() - began
        why = "" if self._asked == "kill" else self._last_words()
        self.exits.append(Exit(time.time(), self.number, code, self._asked, lived, why))
        return lived

    def _last_words(self) -> str:
        """The line that says why it ended."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 20_000))
            lines = file.read().decode(errors="replace").splitlines()
        marks = ("[CRITICAL", "billing-stream: ", "Error: ")
        found = [n for n, line in enumerate(lines) if any(mark in line for mark in marks)]
        if not found:
            return lines[-1][:200] if lines else ""
        cause = next((x for x in reversed(lines[found[-1] :]) if x and x[0] not in " \t"), "")
        return f"{lines[found[-1]][:160]} | {cause[:160]}"
