"""All settings, from the class that reads them: `docs/settings.md` and `.env.example`."""

import sys
from datetime import timedelta
from enum import Enum
from typing import Any

from pydantic.fields import FieldInfo

from billing_stream.config.settings import Settings

HEADER = """\
# Settings

Settings come from the environment; missing ones from `.env` in the current folder, or from the
file that `BILLING_ENV_FILE` names (empty: from none); [.env.example](../.env.example) is a start.
An empty value counts as missing. Durations are a number and a unit: `500ms`, `90s`, `30m`, `24h`,
`14d`. `billing-stream config` shows the values in force and their sources.

<!-- Made by `python -m billing_stream.config.settings_reference > docs/settings.md`; with `env`,
to .env.example. -->

| Variable | Meaning | Default |
|---|---|---|
"""

ENV_HEADER = """\
# Copy this file to .env and set the required values; the rest shows the defaults.
# The environment overrides this file. Made by
# `python -m billing_stream.config.settings_reference env`; docs/settings.md is the same to read.

"""

# Passwords that docker-compose.yml reads; the program does not.
COMPOSE_FOOTER = """
# for docker-compose.yml only, letters and digits
# POSTGRES_PASSWORD=

# for docker-compose.yml only, of the user admin
# GRAFANA_PASSWORD=
"""


def fields() -> dict[str, FieldInfo]:
    """All settings by attribute, as they are read: those of the service, then logs and security."""
    found = Settings.model_fields
    return {name: found[name] for name in {**Settings.__annotations__, **found} if name in found}


def markdown() -> str:
    """The page."""
    lines = [
        f"| `{field.validation_alias}` | {field.description} | {_default(field)} |\n"
        for field in fields().values()
    ]
    return HEADER + "".join(lines)


def env_example() -> str:
    """A `.env` to begin with: what must be set, and the defaults of the rest as comments."""
    blocks = []
    for field in fields().values():
        required = field.is_required()
        value = "" if required else as_text(field.default)
        comment = f"# {field.description}{'; required' if required else ''}"
        blocks.append(f"{comment}\n{'' if required else '# '}{field.validation_alias}={value}\n")
    return ENV_HEADER + "\n".join(blocks) + COMPOSE_FOOTER


def as_text(value: Any) -> str:
    """A value as it is written in the environment; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, timedelta):
        return duration_text(value)
    return str(value.value if isinstance(value, Enum) else value)


def duration_text(value: timedelta) -> str:
    """A duration in the largest unit in which it is a whole number above one, e.g. "24h"."""
    for unit, size in (("d", timedelta(days=1)), ("h", timedelta(hours=1))):
        if value > size and not value % size:
            return f"{value // size}{unit}"
    if value % timedelta(seconds=1):
        return f"{value // timedelta(milliseconds=1)}ms"
    return f"{int(value.total_seconds())}s"


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    text = as_text(field.default)
    return f"`{text}`" if text else "none"


if __name__ == "__main__":
    print(env_example() if sys.argv[1:] == ["env"] else markdown(), end="")
