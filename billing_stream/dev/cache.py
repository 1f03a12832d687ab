"""What was fetched once is kept outside the work tree, for every clone on this machine."""

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class DevError(Exception):
    """Something that keeps the servers from running; the text says what to do."""


def cache_dir() -> Path:
    """BILLING_CACHE_DIR, else billing-stream under XDG_CACHE_HOME, else under ~/.cache."""
    given = os.environ.get("BILLING_CACHE_DIR")
    if given:
        return Path(given).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).absolute() / "billing-stream"


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say on stderr what is being done, and how many seconds it took."""
    began = time.monotonic()
    print(f"  {what} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    except BaseException:
        print(" failed", file=sys.stderr, flush=True)
        raise
    print(f" {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time in; the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached(name: str, what: str, make: Callable[[Path], None], root: Path | None = None) -> Path:
    """The folder `name` of the cache, made by `make` when it is not there yet.

    `make` fills a folder beside it that takes its name only when it is whole, so an
    interrupted one is made again, and two processes at once make it once.
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
        with step(what):
            make(unfinished)
        unfinished.rename(folder)
    return folder
