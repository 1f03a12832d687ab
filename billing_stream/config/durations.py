"""Durations as they are written in the environment."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LONGEST = timedelta(days=36_500)


def parse_duration(value: Any) -> Any:
    """Read "14d", "24h", "30m", "90s" or "500ms".

    Raises ValueError when it is not one of these, not more than nothing, or longer than
    a hundred years.
    """
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"([0-9]+)(ms|s|m|h|d)", str(value).strip())
    if match is None or int(match[1]) == 0:
        raise ValueError('a duration is a whole number and a unit: "14d", "24h", "30m", "90s"')
    try:
        found = timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        found = timedelta.max
    if found > LONGEST:
        raise ValueError(f"a duration is {LONGEST.days} days at most")
    return found


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
