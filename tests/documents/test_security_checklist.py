"""The checklist names tests that exist, and a reason where a requirement does not hold."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security-checklist.md").read_text()
ROWS = re.findall(r"^\| (\d[^|]*) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.M)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_row_is_read() -> None:
    lines = [line for line in PAGE.splitlines() if re.match(r"\| \d", line)]
    assert len(lines) == len(ROWS) >= 35


def test_every_named_test_is_there() -> None:
    named = TEST.findall(PAGE)
    assert len(named) > 40
    missing = [
        f"{path}::{name}"
        for path, name in named
        if f"def {name}(" not in ((ROOT / path).read_text() if (ROOT / path).is_file() else "")
    ]
    assert missing == []
    assert PAGE.count("tests/") == len(named), "a test is named as its file and its name"


def test_a_requirement_holds_by_a_test_or_has_a_reason() -> None:
    for requirement, state, text in ROWS:
        assert state in ("holds", "partly", "no"), requirement
        if state == "holds":
            assert TEST.search(text), requirement
        else:
            reason = TEST.sub("", text)
            assert len(reason.split()) > 10, f"{requirement}: say why not, and what to do"


def test_no_requirement_is_in_two_rows() -> None:
    numbers = [number for row, *_ in ROWS for number in re.findall(r"\d+\.\d+\.\d+", row)]
    assert len(numbers) == len(set(numbers))
