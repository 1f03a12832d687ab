"""Options of the commands: which letters, by whom, and how far the work is."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from billing_stream.console.options import Command, Moment, whoami
from billing_stream.console.progress import progress
from billing_stream.kafka.committed_log import Progress
from billing_stream.ops.dead_letters.action_log import State
from billing_stream.ops.dead_letters.dead_letter_history import Filters


class Pattern(click.ParamType):
    """A regular expression."""

    name = "regex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, when it is one."""
        try:
            re.compile(value)
        except re.error as error:
            self.fail(f"{value!r} is not a regular expression: {error}", param, ctx)
        return str(value)


def filtering(command: Command) -> Command:
    """The options that say which letters are meant; `filters_of` takes them."""
    for option in (
        click.option("--partition", type=click.IntRange(0), help="Of this partition."),
        click.option("--merchant", metavar="ID", help="Of this merchant."),
        click.option("--until", type=Moment(), help="Dead before then."),
        click.option("--since", type=Moment(), help="Newer than a time or an age: 2h, 3d."),
        click.option(
            "--reason",
            type=Pattern(),
            help="Only reasons that match this pattern, in any letter case.",
        ),
        click.option("--topic", help="Only dead letters from this topic."),
    ):
        command = option(command)
    return command


def acting(command: Command) -> Command:
    """The options of commands that do something."""
    for option in (
        click.option("-y", "--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
        click.option("--by", default=whoami, show_default="user@host", help="Who does it."),
        click.option("--because", required=True, help="Why: kept in the action log permanently."),
        click.option("--all", "every", is_flag=True, help="All open ones: no filter is needed."),
    ):
        command = option(command)
    return command


def filters_of(given: dict[str, Any], state: State | None) -> Filters:
    """The filters out of what `filtering` was given."""
    return Filters(state=state, **{name: given[name] for name in FILTERS})


FILTERS = ("topic", "reason", "since", "until", "merchant", "partition")


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Called with how much is done, and of how much; shows it if it takes long."""
    with progress() as show:
        yield lambda done, total: show(label, done, total)
