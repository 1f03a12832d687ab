"""What was fetched once is kept outside the work tree, for every clone on this machine."""

import asyncio
import fcntl
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HEARTBEAT_SECONDS = 10.0


class DevError(Exception):
    """Something that keeps the servers from running; the text says what to do."""


def cache_dir() -> Path:
    """BILLING_CACHE_DIR, else billing-stream under XDG_CACHE_HOME, else under ~/.cache."""
    given = os.environ.get("BILLING_CACHE_DIR")
    if given:
        return Path(given).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "billing-stream"


def say(text: str) -> None:
    """Inform a person on stderr: stdout is for what a shell evaluates."""
    print(f"  {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print the activity, again every 10 seconds while it lasts, and how long it took."""
    began = time.monotonic()
    over = threading.Event()

    def heartbeat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            say(f"... still {what}, {time.monotonic() - began:.0f} s so far")

    say(f"{what} ...")
    thread = threading.Thread(target=heartbeat, daemon=True)
    thread.start()
    result = "failed"
    try:
        yield
        result = "done"
    except (KeyboardInterrupt, asyncio.CancelledError):
        result = "interrupted"
        raise
    finally:
        over.set()
        thread.join()
        say(f"{what}: {result} after {time.monotonic() - began:.1f} s")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time in; the others wait, and say what for.

    Its holder may remove the file: who waited for the removed one then locks the new one.
    Raises DevError when the file cannot be written.
    """
    handle = _lock(path)
    try:
        yield
    finally:
        os.close(handle)


def _lock(path: Path) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DevError(f"{path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that holds {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
            return handle
        os.close(handle)


def cached(name: str, what: str, make: Callable[[Path], None], root: Path | None = None) -> Path:
    """The folder `name` of the cache, made by `make` when it is not there yet.

    `make` fills a folder next to it that takes its name only when it is whole, so an
    interrupted one is made again, and two processes at once make it once. Raises DevError
    when the cache cannot be written.
    """
    folder = (root or cache_dir()) / name
    if folder.is_dir():
        return folder
    with locked(folder.parent / f".{name}.lock"):
        if folder.is_dir():
            return folder
        unfinished = folder.parent / f".{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            with step(what):
                make(unfinished)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        # Readable by everyone whatever the umask: PostgreSQL runs under another user than root.
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
        unfinished.rename(folder)
    return folder
