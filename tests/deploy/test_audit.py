"""The audit names what is known and what could not be asked, and fails when strict."""

import json
from pathlib import Path
from typing import Any

import pytest

from shipping.audit import EXIT_FOUND, EXIT_NOT_ASKED, LOCKS, ROOT, Ask, ask_pip_audit, audit, main

WEAK = {
    "name": "jinja2",
    "version": "2.4.1",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.11"]}],
}
GOOD = {"name": "click", "version": "8.3.3", "vulns": []}
SKIPPED = {"name": "six", "skip_reason": "not found"}


def saying(*packages: dict[str, Any]) -> Ask:
    return lambda lock: (json.dumps({"dependencies": packages, "fixes": []}), "")


def silent(lock: Path) -> tuple[str, str]:
    return "", "Traceback\nrequests.exceptions.ConnectionError: no name of the service\n"


def test_vulnerability_is_named_and_fails_only_when_strict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([], saying(WEAK, GOOD, SKIPPED)) == 0
    output = capsys.readouterr().out
    assert "jinja2 2.4.1: PYSEC-1, mended in 2.11" in output
    assert "WARNING" in output
    assert main(["--strict"], saying(WEAK, GOOD, SKIPPED)) == EXIT_FOUND


def test_nothing_known_is_good() -> None:
    assert main(["--strict"], saying(GOOD)) == 0


@pytest.mark.parametrize("ask", [silent, saying(SKIPPED), saying(GOOD, SKIPPED)])
def test_what_could_not_be_asked_is_told_and_fails_only_when_strict(
    ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], ask) == 0
    assert capsys.readouterr().out.count("NOT AUDITED") == len(LOCKS)
    assert main(["--strict"], ask) == EXIT_NOT_ASKED


def test_a_lock_that_is_not_there_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["no.txt"], saying(GOOD))
    assert ended.value.code == 2


@pytest.mark.full
def test_pip_audit_itself_reads_our_locks_as_they_are(tmp_path: Path) -> None:
    """Whatever the service says: every package is told of, or it is said why not."""
    lock = tmp_path / "one.txt"
    lines = (ROOT / "requirements" / "build.txt").read_text().split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("hatchling=="))
    lock.write_text("\n".join(line for line in lines[start : start + 3]) + "\n")

    one = audit(lock, ask_pip_audit)

    assert one.asked + len(one.not_asked) >= 1
    assert one.asked <= 1
