"""Labelled points in the engine at which a test may end the process. They cost nothing else."""

import os
from collections.abc import Callable
from enum import StrEnum

EXIT_CRASHED = 86


class CrashPoint(StrEnum):
    """Where a crash would hurt, in the order of a partition's life."""

    JOINED = "joined"
    FENCED = "fenced"
    RECOVERING = "recovering"
    SOUGHT = "sought"
    STAGED = "staged"
    HALF_SENT = "half_sent"
    SENT = "sent"
    ACCEPTED = "accepted"
    COMMITTED = "committed"
    APPLIED = "applied"


CrashHook = Callable[[CrashPoint], None]


def no_crash(_: CrashPoint) -> None:
    """Do nothing: the hook of every process but those of crash tests."""


def crash_at(text: str) -> CrashHook:
    """Ends the process at once, as SIGKILL would, where `text` says: `sent`, or `sent:3`.

    The number is how often the point is passed before. Raises ValueError for another text.
    """
    name, _, times = text.partition(":")
    wanted, left = CrashPoint(name), int(times or 0)

    def crash_hook(point: CrashPoint) -> None:
        nonlocal left
        if point is not wanted:
            return
        if left == 0:
            os._exit(EXIT_CRASHED)
        left -= 1

    return crash_hook
