"""Durations as they are written in the environment."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS = {
    "ms": "milliseconds",
    "s": "seconds",
    "m": "minutes",
    "h": "hours",
    "d": "days",
}


def parse_duration(value: Any) -> Any:
    """Read "14d", "24h", "30m", "90s" or "500ms".

    Raises ValueError when it is none of these, or not more than nothing.
    """
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"([0-9]+)(ms|s|m|h|d)", str(value).strip())
    if match is None or int(match[1]) == 0:
        raise ValueError('a duration is a whole number and a unit: "14d", "24h", "30m", "90s"')
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
