"""The code that is asked to decide again: the present code, or another revision in a process."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Protocol, Self

import msgspec

from billing_stream.audit.replay import core
from billing_stream.audit.replay.core.records import Job, Outcome, Recorded
from billing_stream.audit.replay.core.replayer import replayer
from billing_stream.audit.replay.history_source import ReplayError
from billing_stream.domain.policy import Policy

WORKING_TREE = "working-tree"
CORE = Path(core.__file__).parent
COPIED_CORE = "replay_core"
ROOT = CORE.parents[3]
LINE_BYTES_MAX = 1 << 30
ERRORS_SHOWN_BYTES = 4096
ENVIRONMENT_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR")
PACKAGES = ("billing_stream", "agents", "tables", "web")


class Code(Protocol):
    """Decides merchants again. An async context manager."""

    name: str

    async def __aenter__(self) -> Self:
        """Get it ready. Raises ReplayError when it cannot be run."""

    async def __aexit__(self, *_: object) -> None:
        """Take it away."""

    async def replay(self, recorded: Recorded) -> Outcome:
        """The outcome of this merchant's input."""


def code_of(revision: str, policy: Policy, max_record_bytes: int) -> Code:
    """The code of a git revision, or of the working tree."""
    job = Job(root="", policy=own_numbers(policy), max_record_bytes=max_record_bytes)
    return WorkingTree(job) if revision == WORKING_TREE else Revision(revision, job)


def own_numbers(policy: Policy) -> dict[str, Any]:
    """What the settings say otherwise than the code; the rest is for each code to say."""
    mine: dict[str, Any] = msgspec.to_builtins(policy)
    usual: dict[str, Any] = msgspec.to_builtins(Policy())
    return {name: value for name, value in mine.items() if value != usual[name]}


class WorkingTree:
    """The code of this process."""

    name = WORKING_TREE

    def __init__(self, job: Job) -> None:
        self._replay = replayer(job)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def replay(self, recorded: Recorded) -> Outcome:
        # Elsewhere it is a task for long: others have their turn between merchants.
        await asyncio.sleep(0)
        return self._replay(recorded)


class Revision:
    """The code of a git revision, laid out in a folder of its own and run from there."""

    def __init__(self, revision: str, job: Job) -> None:
        self.name = revision
        self._job = job
        self._folder: Path | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the exit

    async def __aenter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="billing-stream-replay-"))
        try:
            await asyncio.to_thread(self._lay_out, self._folder)
            await self._start(self._folder)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self._errors.close()
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def replay(self, recorded: Recorded) -> Outcome:
        answer = await self._ask(recorded)
        if b'"error"' in answer[:10]:
            raise self._failed(msgspec.json.decode(answer)["error"])
        return msgspec.json.decode(answer, type=Outcome)

    def _lay_out(self, folder: Path) -> None:
        repository = _repository()
        revision = _git(repository, "rev-parse", "--verify", f"{self.name}^{{commit}}")
        commit = revision.decode().strip()
        listed = _git(repository, "ls-tree", "--name-only", commit).decode().splitlines()
        packages = [name for name in PACKAGES if name in listed]
        if "billing_stream" not in packages:
            raise self._failed("it has no package billing_stream")
        archive = _git(repository, "archive", "--format=tar", commit, *packages)
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            # Python 3.11.3 and older have no filters.
            safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(folder, **safely)
        shutil.copytree(CORE, folder / COPIED_CORE, ignore=shutil.ignore_patterns("__pycache__"))

    async def _start(self, folder: Path) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"{COPIED_CORE}.driver",
            cwd=folder,
            env=_environment(folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Not the terminal, on which it could write whatever it likes.
            stderr=self._errors,
            limit=LINE_BYTES_MAX,
        )
        self._job.root = str(folder)
        error = msgspec.json.decode(await self._ask(self._job))["error"]
        if error is not None:
            raise self._failed(f"{error}. It lacks what a replay needs, or is too old for it")

    async def _ask(self, what: Any) -> bytes:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise self._failed("it was not started")
        try:
            process.stdin.write(msgspec.json.encode(what) + b"\n")
            await process.stdin.drain()
        except ConnectionError:
            raise self._failed("its process ended") from None
        answer: bytes = await process.stdout.readline()
        if not answer:
            raise self._failed("its process ended")
        return answer

    def _failed(self, why: str) -> ReplayError:
        return ReplayError(f"revision {self.name} cannot be replayed: {why}{self._last_words()}")

    def _last_words(self) -> str:
        """The end of what the process wrote to standard error."""
        if self._errors.closed:
            return ""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - ERRORS_SHOWN_BYTES))
        text = self._errors.read().decode(errors="replace").strip()
        return f"\n{text}" if text else ""


def _environment(folder: Path) -> dict[str, str]:
    """The environment of foreign code: where programs are, and no variable with a secret."""
    kept = {name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ}
    return {**kept, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def _repository() -> Path:
    """The repository of the current folder, else that of this code."""
    for folder in (Path.cwd(), ROOT):
        done = _run_git(folder, "rev-parse", "--show-toplevel")
        if done.returncode == 0:
            return Path(done.stdout.decode().strip())
    raise ReplayError("--code REV is to be run in the git repository that has the revision")


def _git(repository: Path, *arguments: str) -> bytes:
    done = _run_git(repository, *arguments)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise ReplayError(
            f"git cannot give {arguments[-1]!r} of {repository}: {said}. --code takes what "
            f"`git rev-parse` does, or {WORKING_TREE}"
        )
    return done.stdout


def _run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True)
    except FileNotFoundError:
        raise ReplayError("--code REV needs git, which is not on the path") from None
