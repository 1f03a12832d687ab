"""Values of options that more than one command takes."""

import getpass
import os
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from billing_stream.config.durations import parse_duration

Command = Callable[..., Any]
# Where `--json` writes without a file.
STANDARD_OUTPUT = Path("-")
# A record, a merchant or a shop: what commands take as arguments, and no file.
_ARGUMENT = re.compile(r".*@\d+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[a-z]+:[^/\\]+")


class Duration(click.ParamType):
    """`14d`, `24h`, `30m`, `90s`, `500ms`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read it, or report why it is invalid."""
        try:
            duration: timedelta = parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return duration


class NewFile(click.ParamType):
    """A file to be written, looked at first: what was an hour's work must find its place."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, when it can probably be written."""
        path = Path(value)
        folder = path.absolute().parent
        if not folder.is_dir():
            self.fail(f"there is no folder {folder}", param, ctx)
        if path.is_dir():
            self.fail(f"{path} is a folder, and should be a file", param, ctx)
        if not os.access(path if path.exists() else folder, os.W_OK):
            self.fail(f"{path} cannot be written by this user", param, ctx)
        return path


class Moment(click.ParamType):
    """A time, or how long ago: 2026-03-01, 2026-03-01T12:00:00+01:00, 90s, 2h, 3d."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The moment, in UTC; a time without a zone is UTC."""
        if isinstance(value, datetime):
            return value
        try:
            ago: timedelta = parse_duration(value)
            return datetime.now(UTC) - ago
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is neither a time (2026-03-01T12:00) nor a while (2h)", param, ctx
            )
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class ComingMoment(Moment):
    """A time that is not past, or in how long: 2026-06-01, 2026-06-01T12:00+01:00, 90s, 2h."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The moment, in UTC; a time without a zone is UTC."""
        now = datetime.now(UTC)
        try:
            after: timedelta = parse_duration(value)
            return now + after
        except ValueError:
            moment = super().convert(value, param, ctx)
        if moment < now:
            self.fail(f"{value!r} is in the past", param, ctx)
        return moment.astimezone(UTC)


class _JsonTarget(NewFile):
    """A file, or `-` for standard output."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, or STANDARD_OUTPUT."""
        if _ARGUMENT.fullmatch(value):
            self.fail(f"{value} would be its file: give {value} before --json", param, ctx)
        return STANDARD_OUTPUT if value == "-" else super().convert(value, param, ctx)


def json_option(form: str) -> Callable[[Command], Command]:
    """`--json`: instead of text on standard output, or, with a file, in addition to it.

    The command gets `json_to`: None, STANDARD_OUTPUT or a path.
    """
    return click.option(
        "--json",
        "json_to",
        type=_JsonTarget(),
        is_flag=False,
        flag_value="-",
        metavar="[FILE]",
        help=f"{form}, instead of text; with FILE it goes there.",
    )


def whoami() -> str:
    """user@host, as far as the machine knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
