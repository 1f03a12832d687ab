"""All that commands print: text of others in it is clean, and passwords are masked.

Only this file prints, and `progress`, which moves the cursor; a test holds to it.
"""

import logging

import click

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


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The message, clean and without passwords."""
        return clean_text(mask_passwords(super().format(record)))


def clean_warnings() -> None:
    """Clean what is logged in a command, which has no log: Python prints it where it warns."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Plain())
