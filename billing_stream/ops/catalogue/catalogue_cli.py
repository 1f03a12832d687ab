"""`billing-stream catalogue`."""

import asyncio
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.config.catalogue_file import CatalogueError, tables_of
from billing_stream.config.settings import Settings
from billing_stream.console.help import EXIT_WRONG, help_epilog
from billing_stream.console.options import (
    STANDARD_OUTPUT,
    ComingMoment,
    Duration,
    json_option,
    whoami,
)
from billing_stream.console.output import say, say_json, say_json_lines
from billing_stream.console.progress import waiting
from billing_stream.console.quiet import quiet_logs
from billing_stream.console.tables import table_lines
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_admin import check_before_start
from billing_stream.observability.audit_log import audited_command
from billing_stream.ops.catalogue.catalogue_log import CatalogueLog, SetResult
from billing_stream.ops.catalogue.course import (
    CatalogueCourse,
    PackChange,
    VersionEntry,
    as_asked,
    changes,
    course_of,
    terms,
)
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.platforms.sellable import sellable_packs
from billing_stream.records.operator_commands import PackAsked, SetCatalogue

EXIT_NOT_DONE = 1


@click.group(
    epilog=help_epilog(
        {0: "done", 1: "rejected, or not decided in time", 2: EXIT_WRONG},
        "billing-stream catalogue show",
        'billing-stream catalogue set prices.toml --effective-at 5m --reason "summer"',
    )
)
def catalogue() -> None:
    """Set packs and prices while workers run, and show which are in force.

    Until the first version is in force, the packs of the settings are on sale.
    """
    # What it says of errors comes to people as one message of ours.
    quiet_logs("aiokafka", "asyncio")


@catalogue.command(
    "set",
    epilog=help_epilog(
        {
            0: "a version is set, or with --dry-run could be",
            1: "rejected, or not decided in time",
            2: EXIT_WRONG + ", or the file is not right",
        },
        'billing-stream catalogue set prices.toml --dry-run --reason "a look"',
        'billing-stream catalogue set prices.toml --effective-at 5m --reason "summer"',
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--effective-at",
    type=ComingMoment(),
    help="From when on: 2026-06-01T00:00Z, or in how long: 30s, 2h. Without it, at once.",
)
@click.option("--reason", required=True, help="Why; kept with the version permanently.")
@click.option("--by", default=whoami, show_default="user@host", help="Who sets it.")
@click.option("--wait", type=Duration(), default="60s", show_default=True, help="For the outcome.")
@click.option("--idempotency-key", "key", help="The key of an earlier command, to repeat it.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and set nothing.")
@json_option("One JSON object")
def set_catalogue(
    file: Path,
    effective_at: datetime | None,
    reason: str,
    by: str,
    wait: timedelta,
    key: str | None,
    dry_run: bool,
    json_to: Path | None,
) -> None:
    """Replace all packs by those of FILE (TOML, as BILLING_CATALOGUE names one).

    A pack that FILE does not have is retired: it cannot be opened any more, and what was opened
    before is honoured when it is paid. The command is written to billing.operator-commands.v1,
    and the worker that owns partition 0 decides it.
    """
    key = key or f"cli/{uuid.uuid4()}"
    if not all(0 < len(text) <= 255 and text.isprintable() for text in (by, reason, key)):
        raise click.UsageError("--by, --reason and the key are texts of 1 to 255 characters")
    settings = BackgroundSettings.from_env()
    packs = _packs_of(settings, file)
    log = _log(settings)
    course = _course(settings, log)
    if dry_run:
        _show_changes(changes(course.before(effective_at), packs), json_to)
        return
    command = SetCatalogue(packs, by, reason, effective_at, key)
    found = asyncio.run(_set(settings, log, command, wait))
    if found.version is None:
        _fail(found, file, key)
        sys.exit(EXIT_NOT_DONE)
    number = found.version.version
    entry = next(one for one in _course(settings, log).versions if one.version == number)
    if json_to is not None:
        say_json(entry, json_to)
    if json_to != STANDARD_OUTPUT:
        was = "was set before" if found.repeated else "is set"
        say(f"version {entry.version} {was}: {_when(entry)} ({found.version.command})")
        _say_changes(entry.changes)


@catalogue.command(
    epilog=help_epilog(
        {0: "shown", 2: EXIT_WRONG},
        "billing-stream catalogue show",
        "billing-stream catalogue show --json",
    )
)
@json_option("One JSON object")
def show(json_to: Path | None) -> None:
    """Show the packs on sale, the version in force, and those that come. Read-only."""
    settings = BackgroundSettings.from_env()
    now = _course(settings, _log(settings)).now
    if json_to is not None:
        say_json(now, json_to)
    if json_to == STANDARD_OUTPUT:
        return
    if now.in_force is None:
        say("no version is in force: the settings of the workers decide. Those of this shell have")
    else:
        _say_entry(now.in_force)
    for name, pack in now.packs.items():
        say(f"  {name}: {terms(pack)}")
    for one in now.retired:
        say(f"  {one.pack}: retired by version {one.version}; it was {terms(one.terms)}")
    for entry in now.coming:
        say()
        _say_entry(entry)
        _say_changes(entry.changes)


@catalogue.command(
    epilog=help_epilog(
        {0: "shown", 2: EXIT_WRONG},
        "billing-stream catalogue history",
        "billing-stream catalogue history --json | jq .reason",
    )
)
@json_option("A JSON object on each line")
def history(json_to: Path | None) -> None:
    """Show every version, the newest first: what it changed, who set it, and why. Read-only."""
    settings = BackgroundSettings.from_env()
    found = _course(settings, _log(settings)).versions
    if json_to is not None:
        say_json_lines(found, json_to)
    if json_to == STANDARD_OUTPUT:
        return
    if not found:
        say("no version was set: the settings decide")
        return
    rows = [
        (
            f"{one.version}",
            one.state,
            *map(_moment, (one.effective_at, one.set_at)),
            one.by,
            one.reason,
        )
        for one in found
    ]
    heads = ("VERSION", "STATE", "EFFECTIVE", "SET", "BY", "REASON")
    for line in table_lines(heads, rows, right=heads[:1]):
        say(line)
    for one in found:
        say()
        say(f"version {one.version} changes:")
        _say_changes(one.changes)


def _log(settings: Settings) -> CatalogueLog:
    # On other partitions than the topics have, no worker would find a command.
    asyncio.run(check_before_start(settings))
    return CatalogueLog(Cluster.of(settings))


def _course(settings: Settings, log: CatalogueLog) -> CatalogueCourse:
    return course_of(asyncio.run(log.versions()), settings.packs, datetime.now(UTC))


def _packs_of(settings: Settings, file: Path) -> dict[str, PackAsked]:
    try:
        return as_asked(sellable_packs(settings, tables_of(file)))
    except CatalogueError as error:
        lines = "\n".join(f"{file}: {line}" for line in str(error).splitlines())
        raise click.UsageError(lines) from None


async def _set(
    settings: Settings, log: CatalogueLog, command: SetCatalogue, wait: timedelta
) -> SetResult:
    with (
        audited_command(settings, "set_catalogue", command.by) as said,
        waiting("waiting for the worker that owns partition 0"),
    ):
        found = await log.set(
            command,
            seconds_max=wait.total_seconds(),
            deadline=StartDeadline.of(settings),
        )
        version = found.version
        said["outcome"] = "done" if version else "refused" if found.rejected else "waiting"
        said["record"] = found.ref
        return found


def _fail(found: SetResult, file: Path, key: str) -> None:
    if found.rejected is not None:
        say(f"rejected: {found.rejected} ({found.ref} is a dead letter)", err=True)
        return
    say(
        f"not decided yet: {found.ref} waits for the worker that owns partition 0. Is one running? "
        f"`billing-stream catalogue history` shows what was decided. To repeat it, with {file}: "
        f"--idempotency-key {key}",
        err=True,
    )


def _show_changes(found: list[PackChange], json_to: Path | None) -> None:
    if json_to is not None:
        say_json({"changes": found}, json_to)
    if json_to != STANDARD_OUTPUT:
        say("nothing is set: this would change")
        _say_changes(found)


def _say_entry(entry: VersionEntry) -> None:
    who = f"set by {entry.by} at {_moment(entry.set_at)}: {entry.reason}"
    say(f"version {entry.version} {_when(entry)}; {who}")


def _say_changes(found: list[PackChange]) -> None:
    for line in _change_lines(found):
        say(f"  {line}")


def _change_lines(found: list[PackChange]) -> Iterator[str]:
    if not found:
        yield "nothing"
    for one in found:
        sold = [terms(pack) for pack in (one.before, one.after) if pack is not None]
        yield f"{one.pack} is {one.change}: {' -> '.join(sold)}"


def _when(entry: VersionEntry) -> str:
    until = f" until {_moment(entry.until)}" if entry.until is not None else ""
    return f"is {entry.state}, effective from {_moment(entry.effective_at)}{until}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
