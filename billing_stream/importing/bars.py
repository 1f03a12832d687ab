"""Progress bars on standard error, for a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

Advance = Callable[[int], None]
"""Told how many more are done."""


@contextmanager
def bar(label: str, length: int) -> Iterator[Advance]:
    """Shows how far something is that has `length` steps."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(
        length=length,
        label=f"{label:<22}",
        file=sys.stderr,
        show_pos=True,
        update_min_steps=max(1, length // 200),
    ) as shown:

        def advance(count: int) -> None:
            shown.update(count)

        yield advance
