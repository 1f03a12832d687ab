"""Values of options that more than one command takes."""

from datetime import timedelta
from typing import Any

import click

from billing_stream.durations import parse_duration


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
