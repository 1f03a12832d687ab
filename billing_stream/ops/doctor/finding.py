"""What a check found."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct, field


class Verdict(StrEnum):
    """FAIL: a worker would not start, or would not do its work.

    SKIP: not looked at, because of what failed.
    """

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"


class Finding(Struct, frozen=True):
    """One line of the doctor; `action` is what to do next, empty when nothing is."""

    check: str
    verdict: Verdict
    # The names in `--json`.
    message: str = field(name="said")
    action: str = field(default="", name="todo")


def ok(check: str, message: str) -> Finding:
    """Correct."""
    return Finding(check, Verdict.OK, message)


def warn(check: str, message: str, action: str) -> Finding:
    """Works, and should be looked at."""
    return Finding(check, Verdict.WARN, message, action)


def skip(cause: str, checks: Iterable[str]) -> Finding:
    """These checks are left out, because this one found a cause of whatever they would find."""
    return Finding(cause, Verdict.SKIP, f"not looked at because of this: {', '.join(checks)}")


def fail(check: str, message: str, action: str) -> Finding:
    """Does not work."""
    return Finding(check, Verdict.FAIL, message, action)
