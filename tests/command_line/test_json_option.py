"""`--json` is the same in every command: instead of text, or with a file beside it."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from billing_stream.cli import cli
from billing_stream.console.options import Moment

SETTINGS = {
    "BILLING_ENV_FILE": "",
    "APP_ENV": "test",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "CLIENT_JWT_SECRET": "c" * 32,
    "INTERNAL_JWT_SECRET": "i" * 32,
}


def billing_stream(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, env=SETTINGS)


def commands(group: click.Command) -> list[click.Command]:
    if not isinstance(group, click.Group):
        return [group]
    context = click.Context(group)
    found = [group.get_command(context, name) for name in group.list_commands(context)]
    return [each for command in found if command is not None for each in commands(command)]


def test_every_command_that_has_it_takes_it_alike() -> None:
    found = [p for c in commands(cli) for p in c.params if "--json" in p.opts]

    assert len(found) >= 9
    assert {(option.name, option.metavar) for option in found} == {("json_to", "[FILE]")}


def test_times_are_given_alike_in_every_command() -> None:
    found = [
        option
        for command in commands(cli)
        for option in command.params
        if {"--since", "--until", "--at"} & {*option.opts}
    ]

    assert len(found) >= 4
    assert all(isinstance(option.type, Moment) for option in found)


def test_without_a_file_it_takes_the_place_of_the_text() -> None:
    alone, dash = billing_stream("config", "--json"), billing_stream("config", "--json", "-")

    assert json.loads(alone.stdout)["APP_ENV"]["value"] == "test"
    assert dash.stdout == alone.stdout


def test_with_a_file_it_stands_beside_the_text(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"

    both = billing_stream("config", "--json", str(file))

    assert both.stdout == billing_stream("config").stdout
    assert json.loads(file.read_text()) == json.loads(billing_stream("config", "--json").stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("dlq", "show", "--json", "3@17"),
        ("explain", "--json", "shopify:one.myshopify.com"),
        ("explain", "--json", "0b0e9a52-3c4d-5e6f-8a9b-0c1d2e3f4a5b"),
    ],
)
def test_an_argument_is_not_taken_for_its_file(arguments: tuple[str, ...]) -> None:
    result = billing_stream(*arguments)

    assert result.exit_code == 2
    assert f"give {arguments[-1]} before --json" in result.stderr


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    result = billing_stream("verify", "--json", str(tmp_path / "none" / "report.json"))

    assert result.exit_code == 2
    assert "there is no folder" in result.stderr
