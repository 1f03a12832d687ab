"""Completion, asked as the shells ask."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from billing_stream.cli import cli
from billing_stream.console.completion import SHELLS

BIN = Path(sys.executable).parent


def ask(words: str, number: int, shell: str = "bash") -> str:
    env = {
        **os.environ,
        "COMP_WORDS": words,
        "COMP_CWORD": str(number),
        "_BILLING_STREAM_COMPLETE": f"{shell}_complete",
    }
    done = subprocess.run([BIN / "billing-stream"], env=env, capture_output=True, text=True)
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell_asks_the_program(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert f"_BILLING_STREAM_COMPLETE={shell}_complete" in done.stdout


def test_another_shell_is_wrong_usage() -> None:
    assert CliRunner().invoke(cli, ["completion", "csh"]).exit_code == 2


def test_commands_are_completed_with_what_they_do() -> None:
    assert ask("billing-stream wor", 1).split() == ["plain,worker"]
    assert "The settings in force" in ask("billing-stream con", 1, "zsh")


def test_subcommands_and_options_are_completed() -> None:
    assert ask("billing-stream topics cr", 2).split() == ["plain,create"]
    assert ask("billing-stream config --ch", 2).split() == ["plain,--changed"]
    assert ask("billing-stream completion f", 2).split() == ["plain,fish"]


def test_names_are_completed_without_loading_the_commands() -> None:
    """A key press must not take the second that Faust takes."""
    code = (
        "import sys, click; from billing_stream.cli import cli\n"
        "print([c.value for c in cli.shell_complete(click.Context(cli), 'wor')])\n"
        "print([m for m in ('faust', 'aiokafka', 'psutil') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["['worker']", "[]"], done.stderr


def test_bash_itself_completes() -> None:
    script = (
        "source <(billing-stream completion bash)\n"
        "COMP_WORDS=(billing-stream topics ch); COMP_CWORD=2\n"
        "_billing_stream_completion billing-stream\n"
        'echo "${COMPREPLY[@]}"'
    )
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["check"], done.stderr
