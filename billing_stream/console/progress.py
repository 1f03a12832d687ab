"""How far something is that takes more than two seconds: a bar on a terminal, elsewhere a line
now and then. All of it on standard error; standard output is for results."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

QUIET_SECONDS = 2.0
REDRAW_SECONDS = 0.1
LINE_SECONDS = 10.0

Progress = Callable[[str, int, int], None]
"""Called with the activity, how much is done, and of how much."""


def on_terminal() -> bool:
    """Whether somebody looks at standard error, on something that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def progress() -> Iterator[Progress]:
    """Shows the progress; none for an activity of less than two seconds."""
    shown: _Bars | _Lines = _Bars() if on_terminal() else _Lines()
    try:
        yield shown.show
    finally:
        shown.end()


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says that it waits, and for how long already, where there is nothing to be counted."""
    over = threading.Event()
    began = time.monotonic()
    terminal = on_terminal()

    def tell() -> None:
        if over.wait(QUIET_SECONDS if terminal else LINE_SECONDS):
            return
        bar = _bar(counted=False) if terminal else None
        while True:
            text = f"{what}, {time.monotonic() - began:.0f} s"
            if bar is None:
                click.echo(text, err=True)
            else:
                _draw(bar, text, 0, 0)
            if over.wait(1.0 if terminal else LINE_SECONDS):
                break
        if bar is not None:
            bar.stop()

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _bar(*, counted: bool) -> Any:
    """A started bar without a task. Loaded only for who looks at one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    counts = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) if counted else ()
    what = TextColumn("{task.description}", markup=False)
    console = Console(stderr=True, no_color=True, highlight=False)
    bar = Bar(what, *counts, console=console, auto_refresh=False, transient=True)
    bar.start()
    return bar


def _draw(bar: Any, what: str, done: int, total: int) -> None:
    for task in bar.task_ids:
        bar.update(task, description=what, completed=done, total=total)
    if not bar.task_ids:
        bar.add_task(what, completed=done, total=total)
    bar.refresh()


class _Bars:
    """A bar for each thing that is being done, one after the other; wiped when it is over."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._drawn = 0.0
        self._what = ""
        self._bar: Any = None

    def show(self, what: str, done: int, total: int) -> None:
        """Draw it, at a limited rate."""
        now = time.monotonic()
        if what != self._what:
            self.end()
            self._what = what
        if now - self._began < QUIET_SECONDS:
            return
        if self._bar is not None and done < total and now - self._drawn < REDRAW_SECONDS:
            return
        self._bar, self._drawn = self._bar or _bar(counted=True), now
        _draw(self._bar, what, done, max(total, 1))

    def end(self) -> None:
        """Wipe it: what stays on the terminal is the result."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _Lines:
    """A line in ten seconds, for a log."""

    def __init__(self) -> None:
        self._printed_at = time.monotonic()

    def show(self, what: str, done: int, total: int) -> None:
        """Print it, when it was not printed for a while."""
        now = time.monotonic()
        if now - self._printed_at >= LINE_SECONDS:
            self._printed_at = now
            click.echo(f"{what}: {done:,} of {total:,}", err=True)

    def end(self) -> None:
        """Nothing is open."""


Advance = Callable[[int], None]
"""Called with how many more are done."""


@contextmanager
def bar(label: str, length: int) -> Iterator[Advance]:
    """Shows how far something is that has `length` steps."""
    done = 0
    with progress() as show:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            show(label, done, length)

        yield advance
