"""Set-up says what it needs before it begins."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("sh", "make", "cat", "cmp", "rm", "sed", "printf", "test")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with the Makefile and the locks, and a PATH of its own in `bin`."""
    (tmp_path / "bin").mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).symlink_to(found)
    for name in ("Makefile", "pyproject.toml", "requirements"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def program(machine: Path, name: str, script: str) -> None:
    """Put a program on the PATH of the machine."""
    path = machine / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def set_up(machine: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["make", "setup-demo"],
        cwd=machine,
        # Without what a `make test` around it passes on: its level makes it name its folder.
        env={"PATH": str(machine / "bin")},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("platform", "compiler", "said"),
    [
        ("Linux aarch64", None, "apt-get install gcc python3-dev zlib1g-dev"),
        ("Linux aarch64", "exit 1", "apt-get install gcc python3-dev zlib1g-dev"),
        ("Linux aarch64", "exit 0", "setting up .venv"),
        ("Linux x86_64", None, "setting up .venv"),
        ("Darwin arm64", None, "setting up .venv"),
    ],
)
def test_the_compiler_that_arm64_needs_is_named_first(
    machine: Path, platform: str, compiler: str | None, said: str
) -> None:
    program(machine, "uname", f"echo '{platform}'")
    # It is asked for its version and its headers, and makes no environment.
    program(machine, "python3", 'case "$*" in *venv*) exit 9;; esac')
    if compiler is not None:
        program(machine, "cc", compiler)

    code, output = set_up(machine)

    assert code != 0
    assert said in output
    assert ("setting up" in output) == (said == "setting up .venv")
    assert not (machine / ".venv").exists()


@pytest.mark.parametrize(("python", "said"), [(None, "there is no python3"), ("exit 1", "is")])
def test_a_missing_or_old_python_is_named(machine: Path, python: str | None, said: str) -> None:
    if python is not None:
        program(machine, "python3", python)

    code, output = set_up(machine)

    assert code != 0
    assert output.startswith("Python 3.11 or newer is needed")
    assert said in output


def test_the_small_set_up_has_each_package_that_the_program_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = re.findall(r"^([a-z0-9.-]+)==", (ROOT / "requirements/demo.txt").read_text(), re.M)
    needed = [re.split(r"[^A-Za-z0-9-]", one)[0] for one in project["dependencies"]]

    assert "click" in needed
    assert [name for name in needed if name not in pinned] == []
