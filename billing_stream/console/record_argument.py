"""A record as an argument of commands."""

from typing import Any

import click

from billing_stream.records.record_ref import RecordRef


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
