"""`billing-stream dlq`."""

import asyncio
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.console.help import EXIT_WRONG, help_epilog
from billing_stream.console.options import STANDARD_OUTPUT, NewFile, json_option
from billing_stream.console.output import say, say_json_lines
from billing_stream.console.quiet import quiet_logs
from billing_stream.engine.crash_points import CrashHook, crash_at, no_crash
from billing_stream.errors import DeadLettersError
from billing_stream.observability.audit_log import audited_command
from billing_stream.ops.dead_letters import acting, showing
from billing_stream.ops.dead_letters.action_log import State
from billing_stream.ops.dead_letters.dead_letter_history import (
    DeadLetterHistory,
    find,
    find_next,
    find_one,
)
from billing_stream.ops.dead_letters.dead_letter_options import (
    FILTERS,
    filtering,
    filters_of,
    progress_bar,
)
from billing_stream.ops.dead_letters.dead_letter_options import acting as acting_options
from billing_stream.ops.dead_letters.desk_connection import Cluster
from billing_stream.ops.dead_letters.redrive_records import NotRedrivable, whole_record

EXIT_NOT_ALL = 1
SHOWN_MAX = 50


@click.group(
    epilog=help_epilog(
        {0: "good", 1: "some dead letters were left alone", 2: EXIT_WRONG},
        "billing-stream dlq list --since 2h",
        "billing-stream dlq show 3@17",
        'billing-stream dlq redrive 3@17 --because "the shop is known now"',
    )
)
def dlq() -> None:
    """Dead letters: invalid records, rejected commands, unmatched webhooks.

    A dead letter is named by its reference, dlq.billing.v1[3]@17, or in short 3@17. A redriven one
    is processed once; who sent what, and why, is kept in the action log.
    """
    # What it says of errors comes to people as one message of ours.
    quiet_logs("aiokafka", "asyncio")


@dlq.command(
    "list",
    epilog=help_epilog(
        {0: "listed, also when there are none", 2: EXIT_WRONG},
        "billing-stream dlq list",
        "billing-stream dlq list --state all --since 3d --json | jq .reason",
    ),
)
@filtering
@click.option(
    "--state",
    type=click.Choice([*State, "all"]),
    default=State.OPEN,
    show_default=True,
    help="What became of it.",
)
@click.option("--limit", default=SHOWN_MAX, show_default=True, help="Newest shown; 0: all.")
@json_option("A JSON object on each line")
def list_letters(state: str, limit: int, json_to: Path | None, **given: Any) -> None:
    """List dead letters, and count them by reason."""
    wanted = filters_of(given, None if state == "all" else State(state))
    with progress_bar("reading") as progress:
        found = asyncio.run(find(_cluster(), wanted, progress=progress))
    shown = found[-limit:] if limit > 0 else found
    if json_to is not None:
        say_json_lines(map(showing.as_json, shown), json_to)
    if json_to == STANDARD_OUTPUT:
        return
    _echo(showing.table(shown))
    if len(shown) < len(found):
        say(f"... and {len(found) - len(shown):,} older ones (--limit 0 shows all)")
    if found:
        say()
    _echo(showing.summary(found))


@dlq.command(
    epilog=help_epilog(
        {0: "shown", 2: "not found, or wrong usage or settings"},
        "billing-stream dlq show 3@17",
        "billing-stream dlq show 3@17 --value-to letter.json",
    )
)
@click.argument("letter", metavar="REFERENCE")
@json_option("A JSON object")
@click.option(
    "--value-to",
    type=NewFile(),
    help="Write the value here, e.g. to correct it for `redrive --edit`.",
)
def show(letter: str, json_to: Path | None, value_to: Path | None) -> None:
    """Show one dead letter: all of it, why it is dead, and what was done with it."""

    async def look() -> tuple[DeadLetterHistory, list[Any]]:
        found = await find_one(_cluster(), letter)
        if value_to is not None:
            record = await whole_record(_cluster(), found.letter.record)
            value_to.write_bytes(record.value or b"")
        return found, await find_next(_cluster(), found)

    try:
        found, following = asyncio.run(look())
    except NotRedrivable as error:
        raise DeadLettersError(str(error)) from None
    if json_to is not None:
        say_json_lines([showing.as_json(found)], json_to)
    if json_to != STANDARD_OUTPUT:
        _echo(showing.whole(found, following))


@dlq.command(
    epilog=help_epilog(
        {
            0: "all were sent, or nothing was to be done",
            1: "some were left alone",
            2: "wrong usage or settings, or Kafka could not be read or written",
        },
        'billing-stream dlq redrive --reason NOT_FOUND --because "installed late"',
        'billing-stream dlq redrive 3@17 --edit it.json --because "amount corrected"',
    )
)
@click.argument("letters", metavar="[REFERENCE]...", nargs=-1)
@filtering
@acting_options
@click.option(
    "--edit",
    type=click.File("rb"),
    help="A file with the corrected value, for one dead letter; -: standard input.",
)
@click.option("--again", is_flag=True, help="Also what was redriven or discarded before.")
@click.option("--force", is_flag=True, help="Also what would be a dead letter again.")
def redrive(
    letters: tuple[str, ...], edit: Any, again: bool, force: bool, because: str, **given: Any
) -> None:
    """Send dead letters again, those named or all that match.

    Each is processed once, with the time at which it is redriven as its time. Copies go to
    billing.commands.v1. What was redriven already is skipped; with --again another copy is
    sent, and carried out only if no other copy was.
    """
    value = edit.read() if edit is not None else None
    if value is not None and len(letters) != 1:
        raise click.UsageError("--edit corrects one dead letter: name it")
    chosen = _choose(letters, given, None if again else State.OPEN)
    if not _agreed(chosen, given, "redrive"):
        return
    with progress_bar("sending") as progress:
        outcomes, stopped = _run(
            acting.redrive,
            chosen,
            by=given["by"],
            reason=because,
            value=value,
            again=again,
            force=force,
            dry_run=given["dry_run"],
            progress=progress,
        )
    _tell(outcomes, len(chosen), stopped, "were redriven", given["dry_run"])


@dlq.command(
    epilog=help_epilog(
        {
            0: "noted",
            1: "some were left alone",
            2: "wrong usage or settings, or Kafka could not be read or written",
        },
        'billing-stream dlq discard 3@17 --because "a test of the producer"',
    )
)
@click.argument("letters", metavar="[REFERENCE]...", nargs=-1)
@filtering
@acting_options
def discard(letters: tuple[str, ...], because: str, **given: Any) -> None:
    """Note that nothing is to be done with dead letters, those named or all that match.

    They stay in the topic, and `list --state discarded` shows them.
    """
    chosen = _choose(letters, given, State.OPEN)
    if not _agreed(chosen, given, "discard"):
        return
    with progress_bar("discarding") as progress:
        outcomes, stopped = _run(
            acting.discard,
            chosen,
            by=given["by"],
            reason=because,
            dry_run=given["dry_run"],
            progress=progress,
        )
    _tell(outcomes, len(chosen), stopped, "were discarded", given["dry_run"])


def _choose(
    names: tuple[str, ...], given: dict[str, Any], state: State | None
) -> list[DeadLetterHistory]:
    filtered = any(given[name] is not None for name in FILTERS)
    if names and (filtered or given["every"]):
        raise click.UsageError("name dead letters, or say which by options: not both")
    if not names and not filtered and not given["every"]:
        raise click.UsageError("name dead letters, say which by options, or say --all")

    async def by_name() -> list[DeadLetterHistory]:
        return [await find_one(_cluster(), name) for name in names]

    if names:
        return asyncio.run(by_name())
    with progress_bar("reading") as progress:
        return asyncio.run(find(_cluster(), filters_of(given, state), progress=progress))


def _agreed(chosen: list[DeadLetterHistory], given: dict[str, Any], verb: str) -> bool:
    if not chosen:
        say("no dead letter matches")
        return False
    _echo(showing.summary(chosen))
    if given["dry_run"] or given["yes"]:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError("not a terminal: pass --yes to confirm, or --dry-run")
    return click.confirm(f"{verb} {len(chosen):,} dead letters?")


def _run(
    act: Any, chosen: list[DeadLetterHistory], **options: Any
) -> tuple[list[acting.ActionResult], bool]:
    """Act; the first SIGINT or SIGTERM ends it after the transaction that is under way."""
    settings = BackgroundSettings.from_env()

    async def run() -> tuple[list[acting.ActionResult], bool]:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            stop.set()
            # Whoever asks twice does not want to wait.
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        letters = [one.letter for one in chosen]
        cluster = Cluster.of(settings)
        crash_hook: CrashHook = crash_at(settings.crash_at) if settings.crash_at else no_crash
        return await act(
            cluster, letters, stop=stop, crash_hook=crash_hook, **options
        ), stop.is_set()

    try:
        if options["dry_run"]:
            return asyncio.run(run())
        with audited_command(
            settings, act.__name__, options["by"], letters=_names_of(chosen)
        ) as said:
            outcomes, stopped = asyncio.run(run())
            said["done"] = sum(outcome.refused is None for outcome in outcomes)
            return outcomes, stopped
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _names_of(chosen: list[DeadLetterHistory]) -> str:
    """The first of them by name, and how many more there are."""
    names = [showing.short(one.letter) for one in chosen[:SHOWN_MAX]]
    more = len(chosen) - len(names)
    return ",".join(names) + (f",+{more}" if more else "")


def _tell(
    outcomes: list[acting.ActionResult], count: int, stopped: bool, what: str, dry_run: bool
) -> None:
    left = [outcome for outcome in outcomes if outcome.refused is not None]
    done = len(outcomes) - len(left)
    shown = outcomes if len(outcomes) <= SHOWN_MAX else left[:SHOWN_MAX]
    _echo(showing.outcome_line(outcome) for outcome in shown)
    if dry_run:
        what = what.replace("were", "would be")
    nothing = "nothing was done; " if dry_run else ""
    say(f"{nothing}{done:,} of {count:,} dead letters {what}")
    if left:
        say(f"{len(left):,} were left alone")
    if stopped and len(outcomes) < count:
        say(f"stopped before {count - len(outcomes):,} more: run it again for those")
    if left or len(outcomes) < count:
        sys.exit(EXIT_NOT_ALL)


def _cluster() -> Cluster:
    return Cluster.of(BackgroundSettings.from_env())


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)
