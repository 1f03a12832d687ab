"""What a check found."""

from enum import StrEnum

from msgspec import Struct


class Verdict(StrEnum):
    """FAIL: a worker would not start, or would not do its work."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


class Finding(Struct, frozen=True):
    """One line of the doctor; `todo` is what to do next, empty when nothing is."""

    check: str
    verdict: Verdict
    said: str
    todo: str = ""


def ok(check: str, said: str) -> Finding:
    """As it must be."""
    return Finding(check, Verdict.OK, said)


def warn(check: str, said: str, todo: str) -> Finding:
    """Works, and should be looked at."""
    return Finding(check, Verdict.WARN, said, todo)


def fail(check: str, said: str, todo: str) -> Finding:
    """Does not work."""
    return Finding(check, Verdict.FAIL, said, todo)
