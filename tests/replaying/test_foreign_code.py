"""A revision that is tried gets the recorded history, and nothing else of this process."""

import os
import subprocess
from pathlib import Path

import pytest

from billing_stream.audit.replay.code import code_of
from billing_stream.audit.replay.history_source import ReplayError
from billing_stream.domain.policy import Policy

# What a revision can do before it is asked anything.
PACKAGE = """
import json, os, pathlib, sys
pathlib.Path({to!r}).write_text(json.dumps([dict(os.environ), sys.argv, os.getcwd()]))
sys.stderr.write("a word\\x1b]0;pwned\\x07 at the end")
raise SystemExit(3)
"""


def repository(folder: Path, to: Path) -> Path:
    """A git repository with one revision, whose package writes down what it gets."""
    package = folder / "billing_stream"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE.format(to=str(to)))
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    for arguments in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "x")):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True)
    return folder


async def test_a_revision_gets_no_variable_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "seen.json"
    monkeypatch.chdir(repository(tmp_path / "repository", to))
    (Path.cwd() / ".env").write_text("CLIENT_JWT_SECRET=s3cr3t\n")
    for name in ("DATABASE_URL", "CLIENT_JWT_SECRET", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "s3cr3t")
    monkeypatch.setenv("BILLING_ENV_FILE", str(Path.cwd() / ".env"))

    with pytest.raises(ReplayError, match="its process ended") as failed:
        async with code_of("HEAD", Policy(), 1000):
            pass

    seen = to.read_text()
    assert "s3cr3t" not in seen
    assert "BILLING" not in seen
    assert os.environ["PATH"] in seen
    assert str(Path.cwd()) not in seen
    assert "a word" in str(failed.value)


async def test_what_a_revision_writes_does_not_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository(tmp_path / "repository", tmp_path / "seen.json"))

    with pytest.raises(ReplayError):
        async with code_of("HEAD", Policy(), 1000):
            pass

    assert capfd.readouterr().err == ""
