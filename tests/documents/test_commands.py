"""A command that a document names is one that there is, with the options that it is given."""

import re
from pathlib import Path

import click
import pytest

from billing_stream.cli import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
NAMED = re.compile(
    r"(?:^|`|\$ |/bin/)billing-stream ((?:[a-z][a-z-]*|--?[a-z][a-z-]*)[^`\n#|>]*)", re.M
)


def unknown(words: list[str]) -> str | None:
    """The first word that the command line would not know."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        if words[0].startswith("-"):
            break
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            # A group that does something by itself takes arguments.
            return words[0]
        command, words = found, words[1:]
    options = {
        name for parameter in command.params for name in parameter.opts + parameter.secondary_opts
    }
    options |= {"-h", "--help", "--version"}
    given = [word.split("=")[0].strip("[],.)") for word in words if word.startswith("--")]
    return next((option for option in given if option not in options), None)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_the_documents_is_there(document: Path) -> None:
    wrong = {
        line: word
        for line in NAMED.findall(document.read_text())
        if (word := unknown(line.split())) is not None
    }
    assert wrong == {}


MADE = re.compile(r"(?:^|`)make ([a-z][a-z-]*)", re.M)


def test_all_that_can_be_made_by_the_documents_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {one for document in DOCUMENTS for one in MADE.findall(document.read_text())}

    assert named - targets == set()
    assert {"demo", "test", "chaos"} <= named
