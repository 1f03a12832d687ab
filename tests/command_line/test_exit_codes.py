"""docs/exit-codes.md says what the commands say, and the commands do it."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from billing_stream.console.help import EXIT_INTERRUPTED
from billing_stream.dev.dev_cli import EXIT_DOWN
from billing_stream.engine.crash_points import EXIT_CRASHED
from billing_stream.engine.fatal import EXIT_FENCED
from billing_stream.errors import EXIT_FATAL, EXIT_GROUP, EXIT_NEWER_STATE, EXIT_USAGE
from tests.command_line.test_help import EVERY, help_of
from tests.support.worker import environment, run

PAGE = (Path(__file__).parents[2] / "docs" / "exit-codes.md").read_text()
ROW = re.compile(r"^\| (\d+) \|.*\| ([^|]+) \|$", re.M)
ALL = "all"
# They speak of the commands below them.
GROUPS = {(), ("dev",), ("dlq",), ("topics",)}


def on_the_page() -> dict[int, set[str] | str]:
    """Code -> the commands that end with it, or ALL."""
    return {
        int(code): ALL if commands == ALL else set(re.findall(r"`([^`]+)`", commands))
        for code, commands in ROW.findall(PAGE)
    }


def said(path: tuple[str, ...]) -> set[int]:
    """The codes in the --help of a command."""
    part = help_of(path).split("Exit codes:")[1].split("Examples:")[0]
    return {int(code) for code in re.findall(r"^ +(\d+) {2,}\S", part, re.M)}


def test_each_code_of_a_command_is_on_the_page_with_it_and_no_other() -> None:
    said_by: dict[int, set[str]] = {}
    for path in EVERY:
        if path not in GROUPS:
            for code in said(path):
                said_by.setdefault(code, set()).add(" ".join(path))

    page = on_the_page()

    assert set(page) == set(said_by)
    for code, commands in page.items():
        if commands != ALL:
            assert commands == said_by[code], code


@pytest.mark.parametrize("path", sorted(GROUPS), ids=" ".join)
def test_a_group_speaks_of_no_other_codes(path: tuple[str, ...]) -> None:
    assert said(path) <= set(on_the_page())


def test_every_code_of_the_program_is_explained() -> None:
    ours = {EXIT_USAGE, EXIT_FATAL, EXIT_DOWN, EXIT_CRASHED, EXIT_INTERRUPTED}
    ours |= {EXIT_GROUP, EXIT_NEWER_STATE, EXIT_FENCED}

    assert {code for code in ours if not re.search(rf"\b{code}\b", PAGE)} == set()


async def test_wrong_usage_and_nothing_there_are_told_apart(tmp_path: Path) -> None:
    env = environment("127.0.0.1:9", "p.", BILLING_DATA_DIR=str(tmp_path))

    assert (await run(env, "nonsense"))[0] == 2
    assert (await run(env, "verify", "--nonsense"))[0] == 2
    assert (await run(env, "dev", "status"))[0] == 3


def ends_with(code: str) -> subprocess.CompletedProcess[str]:
    """The console script, with one command that does what `code` says."""
    script = (
        "import os, signal, click\n"
        "from billing_stream import cli\n"
        f"@cli.cli.command()\ndef it():\n    {code}\n"
        "cli.main()\n"
    )
    return subprocess.run([sys.executable, "-c", script, "it"], capture_output=True, text=True)


def test_a_fault_of_ours_is_not_a_difference_that_was_found() -> None:
    done = ends_with("raise ZeroDivisionError('by nothing')")

    assert done.returncode == 70
    assert "ZeroDivisionError: by nothing" in done.stderr


def test_ctrl_c_is_130_and_a_no_is_1() -> None:
    stopped = ends_with("os.kill(os.getpid(), signal.SIGINT)")
    refused = ends_with("raise click.Abort")

    assert (stopped.returncode, refused.returncode) == (130, 1)
    assert "Traceback" not in stopped.stderr + refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("service", ["worker", "projector"])
def test_a_service_that_has_not_begun_ends_with_0(service: str, number: signal.Signals) -> None:
    assert while_loading([service], number) == 0


@pytest.mark.parametrize("arguments", [["verify"], ["projector", "rebuild"], ["worker", "--help"]])
def test_any_other_command_ends_by_the_signal(arguments: list[str]) -> None:
    assert while_loading(arguments, signal.SIGTERM) == -signal.SIGTERM


def while_loading(arguments: list[str], number: signal.Signals) -> int:
    """The exit code of a process that gets the signal while it imports the command line."""
    script = (
        "import os, sys\n"
        "class Signalled:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'billing_stream.cli':\n"
        f"            os.kill(os.getpid(), {number.value})\n"
        "sys.meta_path.insert(0, Signalled())\n"
        "from billing_stream.__main__ import main\n"
        "main()\n"
    )
    return subprocess.run([sys.executable, "-c", script, *arguments]).returncode
