"""The table of all settings, from the class that reads them: `docs/settings.md`."""

from datetime import timedelta
from enum import Enum
from typing import Any

from billing_stream.settings import Settings

HEADER = """\
# Settings

All from the environment; made by `python -m billing_stream.settings_table > docs/settings.md`.
A missing or malformed one names itself at start-up, and shows no value.

| variable | what | default |
|---|---|---|
"""


def markdown() -> str:
    """The page."""
    lines = [
        f"| `{field.validation_alias}` | {field.description} | {_default(field)} |\n"
        for field in Settings.model_fields.values()
    ]
    return HEADER + "".join(lines)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, timedelta):
        return f"`{_duration(value)}`"
    if isinstance(value, Enum):
        value = value.value
    return "none" if value in (None, "") else f"`{value}`"


def _duration(value: timedelta) -> str:
    for unit, size in (("d", timedelta(days=1)), ("h", timedelta(hours=1))):
        if value > size and not value % size:
            return f"{value // size}{unit}"
    return f"{int(value.total_seconds())}s"


if __name__ == "__main__":
    print(markdown(), end="")
