"""`billing-stream import` and `billing-stream import shadow`."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.console.help import EXIT_INTERRUPTED, help_epilog
from billing_stream.console.options import STANDARD_OUTPUT, Duration, NewFile, json_option
from billing_stream.console.output import say, say_json
from billing_stream.migration import findings
from billing_stream.migration.import_run import Import, ImportOptions
from billing_stream.migration.migration_report import Report
from billing_stream.migration.old_shops import read_shops
from billing_stream.migration.shadow import shadow as look

EXIT_DIFFERS = 1


FROM = click.option(
    "--from",
    "url",
    envvar="OLD_DATABASE_URL",
    show_envvar=True,
    metavar="DATABASE_URL",
    help="The old service's PostgreSQL. A role that can only read is enough.",
)
JSON = json_option("The whole report as a JSON object")
SHOW = click.option("--show", default=20, show_default=True, help="Differences shown at most.")


@click.group(
    "import",
    invoke_without_command=True,
    epilog=help_epilog(
        {
            0: "everything is here",
            1: "rows were rejected, or differ",
            2: "it could not be done, or wrong usage or settings",
            130: "stopped by SIGINT or SIGTERM; run again, it continues",
        },
        "billing-stream import --from postgresql://reader@old/billing --dry-run",
        "OLD_DATABASE_URL=... billing-stream import --shops shops.csv",
    ),
)
@FROM
@click.option("--dry-run", is_flag=True, help="Read and report; nothing is sent.")
@click.option(
    "--shops",
    "shops_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with merchant_id,platform,domain: the old tables do not have them.",
)
@click.option(
    "--rejects", "rejects_file", type=NewFile(), help="Write rejected rows here, JSON, one a line."
)
@JSON
@SHOW
@click.option("--no-compare", is_flag=True, help="Send only; do not wait and compare.")
@click.option(
    "--wait",
    type=Duration(),
    default="1m",
    show_default=True,
    help="Stop waiting if the workers make no progress for this long.",
)
@click.option("--fresh", is_flag=True, help="Send everything, also what was acknowledged before.")
@click.pass_context
def import_command(ctx: click.Context, /, **given: Any) -> None:
    """Bring every merchant and purchase of the old service in, exactly once.

    Sends commands to billing.commands.v1, waits until workers have processed them, and compares
    both sides. It can be stopped at any time and run again: nothing counts twice. Reads one
    snapshot of the old database, and writes nothing there.
    """
    if ctx.invoked_subcommand is not None:
        return
    shops_file, rejects_file = given["shops_file"], given["rejects_file"]
    url, settings = _require(given["url"]), BackgroundSettings.from_env()
    with findings.writing(rejects_file) as on_reject:
        asked = ImportOptions(
            dry_run=given["dry_run"],
            fresh=given["fresh"],
            compare=not given["no_compare"],
            wait=given["wait"],
            differences_max=given["show"],
            shops=read_shops(shops_file) if shops_file else {},
            on_reject=on_reject,
        )
        report = _run(Import(settings, url, asked).run())
    _finish(report, given["json_to"])
    if report.faults or report.findings.rejects or report.waited is False:
        sys.exit(EXIT_DIFFERS)


@import_command.command(
    "shadow",
    epilog=help_epilog(
        {
            0: "nothing differs",
            1: "something does, in every look",
            2: "one side could not be read",
            130: "stopped by SIGINT or SIGTERM",
        },
        "OLD_DATABASE_URL=... billing-stream import shadow --looks 3 --grace 1m",
    ),
)
@FROM
@JSON
@SHOW
@click.option("--looks", type=click.IntRange(1, 10), default=2, show_default=True)
@click.option(
    "--grace",
    type=Duration(),
    default="30s",
    show_default=True,
    help="Between two looks: longer than a webhook takes through both services.",
)
def shadow_command(
    url: str | None, json_to: Path | None, show: int, looks: int, grace: timedelta
) -> None:
    """Compare the old service with this one while both are fed. Only reads.

    Looks more than once, and reports what differs in every look.
    """
    settings = BackgroundSettings.from_env()
    address = _require(url)
    report = _run(look(settings, address, looks=looks, grace=grace, differences_max=show))
    _finish(report, json_to)
    if report.faults:
        sys.exit(EXIT_DIFFERS)


def _require(url: str | None) -> str:
    if not url:
        raise click.UsageError("--from, or OLD_DATABASE_URL, is the address of the old database")
    return url


def _finish(report: Report, json_to: Path | None) -> None:
    if json_to is not None:
        say_json(report.as_json(), json_to)
    if json_to != STANDARD_OUTPUT:
        for line in report.lines():
            say(line)


def _run(work: Coroutine[Any, Any, Report]) -> Report:
    try:
        return asyncio.run(_stoppable(work))
    except asyncio.CancelledError:
        say("stopped; run the same again, it continues where it was", err=True)
        sys.exit(EXIT_INTERRUPTED)


async def _stoppable(work: Coroutine[Any, Any, Report]) -> Report:
    """SIGTERM and SIGINT end it in order: what was acknowledged is remembered."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    return await task
