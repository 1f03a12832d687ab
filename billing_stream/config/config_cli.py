"""`billing-stream config`: the settings in force, and where each of them comes from."""

import difflib
import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

import click
import msgspec
from msgspec import Struct
from pydantic import SecretStr

from billing_stream.config.catalogue_settings import OLD_NAMES
from billing_stream.config.env_file import ENV_FILE, settings_in_files
from billing_stream.config.file_modes import warnings_of
from billing_stream.config.settings import Settings
from billing_stream.config.settings_reference import as_text, fields
from billing_stream.console.help import help_epilog
from billing_stream.console.options import STANDARD_OUTPUT, json_option
from billing_stream.console.output import say, say_json
from billing_stream.console.tables import table_lines
from billing_stream.domain.policy import PACKS
from billing_stream.plain_text import MASK, mask_passwords

# Ours, but read before there are settings, or by development only.
NOT_SETTINGS = frozenset({ENV_FILE, "BILLING_CACHE_DIR", "BILLING_URL"})


class Source(StrEnum):
    """Where a value comes from."""

    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


class Effective(Struct, frozen=True):
    """One setting: its variable, its value as text (secrets masked, None: not set), its source.

    `file` is the one that it is from, where it is from one.
    """

    variable: str
    value: str | None
    source: Source
    file: Path | None = None


def effective(
    settings: Settings, in_files: Mapping[str, tuple[str | None, Path]]
) -> list[Effective]:
    """Every setting in force, in their order; `in_files` as `settings_in_files` gives it."""
    outside = {name.upper() for name, value in os.environ.items() if value}
    inside = {name.upper(): file for name, (value, file) in in_files.items() if value}
    found = []
    for attribute, field in fields().items():
        variable = str(field.validation_alias)
        value = getattr(settings, attribute)
        names = {variable, *OLD_NAMES.get(variable, ())[:1]}
        source, file = Source.DEFAULT, None
        if names & outside:
            source = Source.ENVIRONMENT
        elif found_in := names & inside.keys():
            source, file = Source.FILE, inside[min(found_in)]
        if variable == "DATABASE_URL" and value is not None:
            # Not where it is, only user and password are secret.
            value = value.get_secret_value()
        text = MASK if isinstance(value, SecretStr) else mask_passwords(as_text(value))
        found.append(Effective(variable, None if value is None else text, source, file))
    return found


def unknown(names: Iterable[str]) -> dict[str, str | None]:
    """Names like those of settings that are none, each with the setting that was perhaps meant."""
    known = {str(field.validation_alias) for field in Settings.model_fields.values()}
    strange = sorted(
        name
        for name in {name.upper() for name in names}
        if name.startswith("BILLING_") or name.endswith(("_PACK_CREDITS", "_PACK_PRICE"))
        if name not in known | NOT_SETTINGS
    )
    return {name: next(iter(difflib.get_close_matches(name, known, 1)), None) for name in strange}


@click.command(
    epilog=help_epilog(
        {0: "the settings are right", 2: "they are not, or wrong usage"},
        "billing-stream config",
        "billing-stream config --changed   # only changed values",
        "billing-stream config --json | jq '.BILLING_PARTITIONS.value'",
        environment={ENV_FILE: "the file to read instead of .env; empty: none"},
    )
)
@click.option("--changed", is_flag=True, help="Leave out what has its default.")
@json_option("One JSON object, by variable")
def config(changed: bool, json_to: Path | None) -> None:
    """Show the settings in force, and where each comes from. Nothing is connected.

    From the environment, then from a file, then the default; at the end, the packs that they
    make. Secrets are masked. When
    something is missing or malformed, each such variable is named, and nothing else is shown.
    Variables that look like settings and are not are named on standard error.
    """
    settings = Settings.from_env()
    in_files = settings_in_files()
    rows = [
        row
        for row in effective(settings, in_files)
        if not changed or row.source is not Source.DEFAULT
    ]
    if json_to is not None:
        shown: dict[str, object] = {
            row.variable: {"value": row.value, "source": row.source.value} for row in rows
        }
        say_json({**shown, "packs": msgspec.to_builtins(settings.packs)}, json_to)
    if json_to != STANDARD_OUTPUT:
        _show(rows)
        if not changed or settings.packs != dict(PACKS):
            _show_packs(settings)
    for warning in warnings_of(settings):
        say(warning, err=True)
    for name, meant in unknown([*os.environ, *in_files]).items():
        hint = f": {meant}?" if meant else ""
        say(f"{name} is not a setting{hint}", err=True)


def _show(rows: list[Effective]) -> None:
    shown = (
        (
            row.variable,
            str(row.file or row.source),
            "(not set)" if row.value is None else row.value,
        )
        for row in rows
    )
    for line in table_lines(("", "", ""), shown):
        say(line)


def _show_packs(settings: Settings) -> None:
    say("packs, unless a version of the log decides (`billing-stream catalogue show` says):")
    for name, pack in settings.packs.items():
        prices = ", ".join(f"{amount} {currency}" for currency, amount in pack.prices.items())
        say(f"pack {name}: {pack.credits} credits for {prices} ({pack.shown_title})")
