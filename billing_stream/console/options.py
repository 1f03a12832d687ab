"""Values of options that more than one command takes."""

import getpass
import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from billing_stream.config.durations import parse_duration
from billing_stream.records.record_ref import RecordRef


class Duration(click.ParamType):
    """`14d`, `24h`, `30m`, `90s`, `500ms`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read it, or say what is wrong with it."""
        try:
            duration: timedelta = parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return duration


class NewFile(click.ParamType):
    """A file to be written, looked at first: what was an hour's work must find its place."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, when it can be written as far as one can tell."""
        path = Path(value)
        folder = path.absolute().parent
        if not folder.is_dir():
            self.fail(f"there is no folder {folder}", param, ctx)
        if path.is_dir():
            self.fail(f"{path} is a folder, and should be a file", param, ctx)
        if not os.access(path if path.exists() else folder, os.W_OK):
            self.fail(f"{path} cannot be written by this user", param, ctx)
        return path


class Reference(click.ParamType):
    """A record: TOPIC[PARTITION]@OFFSET."""

    name = "reference"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> RecordRef:
        """The parts of it."""
        try:
            return RecordRef.parse(value)
        except ValueError:
            self.fail(f"{value!r} is not TOPIC[PARTITION]@OFFSET", param, ctx)


def whoami() -> str:
    """user@host, as far as the machine knows."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
