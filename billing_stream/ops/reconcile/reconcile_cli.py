"""`billing-stream reconcile`."""

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from billing_stream.config.settings import Settings
from billing_stream.console.help import EXIT_INTERRUPTED, EXIT_WRONG, help_epilog
from billing_stream.console.options import STANDARD_OUTPUT, Moment, json_option
from billing_stream.console.output import say, say_json
from billing_stream.console.progress import Progress, progress
from billing_stream.kafka.client_options import client_options
from billing_stream.migration.current_rows import read_locally
from billing_stream.ops.forget.forget_cli import Merchant
from billing_stream.ops.reconcile.comparing import Report
from billing_stream.ops.reconcile.reconcile_run import ReconcileRun, RunOptions
from billing_stream.platforms.platform_factory import new_platforms
from billing_stream.records.topics import Topics
from billing_stream.web.auth import shop_token_headers
from billing_stream.web.ingress import KafkaIngress

EXIT_DIFFERS = 1


@click.command(
    epilog=help_epilog(
        {
            0: "nothing differs",
            1: "something differs, or a platform could not be asked",
            2: EXIT_WRONG,
            130: "stopped by Ctrl-C; run again",
        },
        "billing-stream reconcile --dry-run",
        "billing-stream reconcile --since 30d --json report.json",
    )
)
@click.option(
    "--since",
    type=Moment(),
    default="30d",
    show_default=True,
    help="Purchases opened, and events of Stripe, since then (2h, 30d, 2026-11-30).",
)
@click.option("--merchant", type=Merchant(), help="Only purchases of this merchant (its id).")
@click.option("--dry-run", is_flag=True, help="Compare only; nothing is sent.")
@click.option("--show", default=20, show_default=True, help="Purchases shown of each difference.")
@json_option("The whole report as a JSON object")
def reconcile(since: datetime, merchant: str | None, json_to: Path | None, **given: Any) -> None:
    """Ask the platforms about purchases, and compare.

    Looks up the charge of every purchase, and the events that Stripe could not deliver. Missed
    payments and refunds are sent to the topics of webhooks, where workers decide them; nothing
    counts twice. Lists purchases paid and not credited, credited and not paid, and those with
    another amount.

    Needs the settings of workers, with the credentials of the platforms.
    """
    settings = Settings.from_env()
    options = RunOptions(
        since=since,
        merchant=merchant,
        dry_run=given["dry_run"],
        concurrency=settings.reconcile_concurrency,
        max_record_bytes=settings.max_record_bytes,
    )
    with progress() as show:
        try:
            report = asyncio.run(_run(settings, options, show))
        except KeyboardInterrupt:
            say("stopped; nothing counts twice when it is run again", err=True)
            sys.exit(EXIT_INTERRUPTED)
    if json_to is not None:
        say_json(report.as_json(), json_to)
    if json_to != STANDARD_OUTPUT:
        for line in report.lines(given["show"]):
            say(line)
    if report.differs:
        sys.exit(EXIT_DIFFERS)


async def _run(settings: Settings, options: RunOptions, show: Progress) -> Report:
    topics = Topics(settings.app_id, settings.topic_prefix)
    kafka = client_options(settings)
    rows = await read_locally(kafka, topics, settings.partitions, show)
    headers = partial(shop_token_headers, settings.internal_jwt_secrets[0])
    platforms = new_platforms(settings, headers)
    ingress = KafkaIngress(kafka, topics, settings.partitions)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(ingress.close)
        for platform in platforms.values():
            stack.push_async_callback(platform.close)
        return await ReconcileRun(rows, platforms, ingress, options, show).run()
