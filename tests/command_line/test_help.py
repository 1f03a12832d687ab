"""Every command says what it does, what it ends with, and how it is used."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from billing_stream.cli import cli
from billing_stream.console.help import help_epilog


def commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every command below this one, and its own."""
    found = [path]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                found += commands(below, (*path, name))
    return found


EVERY = commands(cli)


def help_of(path: tuple[str, ...]) -> str:
    done = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80)
    assert done.exit_code == 0, done.output
    return done.output


def test_there_are_commands_to_look_at() -> None:
    assert {(), ("worker",), ("topics", "create"), ("dev", "up"), ("config",)} <= set(EVERY)


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help_has_a_description_exit_codes_and_examples(path: tuple[str, ...]) -> None:
    text = help_of(path)
    usage, description = text.split("\n\n", 2)[:2]
    assert usage.startswith("Usage: ")
    assert description.strip()
    assert "Exit codes:" in text
    assert re.search(r"^ +0 +\S", text, re.MULTILINE)
    assert "Examples:" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_examples_are_commands_and_options_that_there_are(path: tuple[str, ...]) -> None:
    examples = help_of(path).split("Examples:")[1].splitlines()
    said = [line for line in examples if "billing-stream" in line]
    assert said
    for line in said:
        (rest,) = re.findall(r"billing-stream ([^|&)]+)", line.split("#")[0])[:1]
        words = shlex.split(rest)
        command: click.Command = cli
        # A group that does something by itself has options of its own.
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            below = command.get_command(click.Context(command), words.pop(0))
            assert below is not None, line
            command = below
        options = {name for one in command.params for name in one.opts}
        assert {word for word in words if word.startswith("--")} <= options, line


def test_the_parts_of_a_manual_stand_in_columns() -> None:
    text = help_epilog({0: "good", 70: "bad"}, "x", environment={"A": "b"})
    assert text == (
        "\b\nEnvironment:\n  A  b\n\n\b\nExit codes:\n  0   good\n  70  bad\n\n\b\nExamples:\n  x"
    )


def test_no_color_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def coloured() -> None:
        click.secho("text", fg="red")

    monkeypatch.setitem(cli.commands, "coloured", coloured)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert CliRunner().invoke(cli, ["coloured"], color=True).output == "\x1b[31mtext\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert CliRunner().invoke(cli, ["coloured"], color=True).output == "text\n"
