"""The tutorial as a machine reads it: what to type, and what is shown then.

    python -m tests.documents.tutorial

runs it and writes what was printed into the page.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from billing_stream.dev.cluster import Cluster
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
PORT = "8000"
# What `make setup-demo` and the commands need of the project's folder.
LINKED = ("Makefile", "pyproject.toml", "requirements")
LOOK_AGAIN_SECONDS = 15.0

_BLOCK = re.compile(r"^```bash\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)
# What is another one each time. Everything else is compared as it stands.
_VOLATILE = (
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"), "<time>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"AppPurchaseOneTime/\d+"), "AppPurchaseOneTime/<number>"),
    (re.compile(r"\bpid \d+ *"), "pid <number> "),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:<port>"),
    (re.compile(r"/\S+/\.data\b"), "<folder>/.data"),
    # The place of a letter: a new owner may have left marks before it.
    (re.compile(r"(?<=7@)\d+|(?<=dlq\.billing\.v1\[7\]@)\d+"), "<offset>"),
    # How many records there are depends on how many transactions they went into.
    (re.compile(r"^(formats|positions) +\d+", re.M), r"\1 <count>"),
    (re.compile(r"^\d+ records in \d+\.\d s", re.M), "<count> records in <seconds> s"),
    # Each shell says it in words of its own.
    (re.compile(r"^.* Killed .*\n", re.M), ""),
    (re.compile(r" +$", re.M), ""),
)
# What nobody needs to read.
_SHORTER = (
    (re.compile(r"(?<=postgres:)[\w-]+(?=@)"), "..."),
    (re.compile(r"/\S+/\.data\b"), "/home/you/billing-stream/.data"),
    (re.compile(r"^.* Killed .*\n", re.M), ""),
)


class Block(Struct, frozen=True):
    """Commands, and the output that the page shows; None where it shows none."""

    commands: str
    shown: str | None

    @property
    def only_looks(self) -> bool:
        """Whether it may be run again until the service has got there."""
        return all(
            re.match(r"shop \$URL\S* \||billing-stream (dlq list|explain)\b|sed ", line)
            for line in self.commands.splitlines()
        )


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    return [Block(*found.groups()) for found in _BLOCK.finditer(page)]


def lasting(text: str) -> str:
    """The text without what is another one each time."""
    text = shorter(text)
    for form, name in _VOLATILE:
        text = form.sub(name, text)
    return text


def shorter(text: str) -> str:
    """The text as the page shows it."""
    for form, name in _SHORTER:
        text = form.sub(name, text)
    return text


class Shell:
    """One bash for all blocks, as a reader has one terminal."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.port = str(free_port())
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process group of all that it starts, servers excepted."""
        return self._process.pid

    def run(self, commands: str) -> tuple[int, str]:
        """Type the commands; the exit code of the last one, and all that was printed."""
        mark = f"--{uuid.uuid4().hex}--"
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the shell has no pipes")
        commands = commands.replace(PORT, self.port)
        stdin.write(f"{commands}\nprintf '\\n%s %s\\n' {mark} $?\n")
        stdin.flush()
        lines: list[str] = []
        for line in stdout:
            if line.startswith(mark):
                text = "".join(lines).removesuffix("\n")
                return int(line.split()[1]), text.replace(self.port, PORT)
            lines.append(line)
        raise RuntimeError(f"the shell ended:\n{''.join(lines)}")

    def run_block(self, block: Block) -> tuple[int, str]:
        """The same for a block; one that only looks is run until it sees what is shown."""
        end = time.monotonic() + LOOK_AGAIN_SECONDS
        while True:
            code, output = self.run(block.commands)
            done = code == 0 and (not block.shown or lasting(output) == lasting(block.shown))
            if done or not block.only_looks or time.monotonic() > end:
                return code, output
            time.sleep(0.2)

    def close(self) -> None:
        """End it, and whatever it started."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def reader() -> Iterator[Shell]:
    """The shell of a reader in a folder of its own; nothing of it is left at the end."""
    # Not under pytest's folder: root's cannot be entered by the user PostgreSQL runs under.
    folder = Path(tempfile.mkdtemp(prefix="billing-stream-tutorial-"))
    folder.chmod(0o755)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    kept = ("PATH", "HOME", "LANG", "BILLING_CACHE_DIR", "XDG_CACHE_HOME")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    # Nothing here is shown on the page: it makes the wait for a killed worker shorter.
    env |= {
        "BILLING_SESSION_TIMEOUT": "3s",
        "BILLING_DRAIN_DELAY": "50ms",
        "BILLING_PROJECTOR_PORT": str(free_port()),
    }
    shell = Shell(folder, env)
    try:
        yield shell
    finally:
        shell.close()
        Cluster(folder / ".data").down(delete=True)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run the page and write into it what was printed."""
    page = PAGE.read_text()
    with reader() as shell:
        for block in blocks(page):
            code, output = shell.run_block(block)
            print(f"{block.commands}=> {code}\n{output}", flush=True)
            if block.shown is not None:
                old = f"```bash\n{block.commands}```\n\n```text\n{block.shown}```\n"
                new = f"```bash\n{block.commands}```\n\n```text\n{shorter(output)}```\n"
                page = page.replace(old, new, 1)
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
