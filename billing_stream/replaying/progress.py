"""A bar on a terminal for what takes more than two seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from billing_stream.replaying.source import Progress

BAR_WIDTH = 30
QUIET_SECONDS = 2.0


@contextmanager
def bar() -> Iterator[Progress | None]:
    """Something to be told of progress; None when nobody is at a terminal. Wiped at the end."""
    if not sys.stderr.isatty():
        yield None
        return
    began = time.monotonic()

    def show(what: str, done: int, total: int) -> None:
        if time.monotonic() - began < QUIET_SECONDS:
            return
        filled = BAR_WIDTH * done // max(total, 1)
        drawn = "#" * filled + "." * (BAR_WIDTH - filled)
        click.echo(f"\r\033[K{what:>14} [{drawn}] {done:,} of {total:,}", nl=False, err=True)

    try:
        yield show
    finally:
        click.echo("\r\033[K", nl=False, err=True)
