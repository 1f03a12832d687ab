"""What a check found."""

from enum import StrEnum

from msgspec import Struct, field


class Verdict(StrEnum):
    """FAIL: a worker would not start, or would not do its work."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


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


def fail(check: str, message: str, action: str) -> Finding:
    """Does not work."""
    return Finding(check, Verdict.FAIL, message, action)
