"""All that commands print: text of others in it is clean, and passwords are masked.

Only this file prints, and `progress`, which moves the cursor; a test holds to it.
"""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from billing_stream.console.options import STANDARD_OUTPUT
from billing_stream.plain_text import clean_line, clean_text, mask_passwords


def say(text: str = "", *, err: bool = False, verdict: tuple[str, str] | None = None) -> None:
    """Print one line; line ends in it are shown as escapes.

    `verdict` is a word and its colour, before the line. `err`: to standard error.
    """
    line = clean_line(mask_passwords(text))
    if verdict is not None:
        line = click.style(verdict[0], fg=verdict[1]) + line
    click.echo(line, err=err)


def say_text(text: str, *, err: bool = False) -> None:
    """Print text of several lines."""
    click.echo(clean_text(mask_passwords(text)), err=err)


def say_json(content: Any, to: Path) -> None:
    """Print a structure as JSON, or write it to the file that `--json` names."""
    _write_json(json.dumps(msgspec.to_builtins(content), indent=2), to)


def say_json_lines(contents: Iterable[Any], to: Path) -> None:
    """The same for many, an object on each line."""
    _write_json("\n".join(json.dumps(msgspec.to_builtins(one)) for one in contents), to)


def _write_json(text: str, to: Path) -> None:
    if to != STANDARD_OUTPUT:
        to.write_text(text + "\n")
    elif text:
        say_text(text)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The message, clean and without passwords."""
        return clean_text(mask_passwords(super().format(record)))


def clean_warnings() -> None:
    """Clean the log lines of a command, which has no log: Python prints it where it warns."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Plain())
