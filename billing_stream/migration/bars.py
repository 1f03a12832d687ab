"""Progress of what is counted one by one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from billing_stream.console.progress import progress

Advance = Callable[[int], None]
"""Told how many more are done."""


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
