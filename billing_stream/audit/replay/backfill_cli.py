"""`billing-stream backfill`."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from billing_stream.audit.replay.code import WORKING_TREE
from billing_stream.audit.replay.corrections import (
    Correction,
    Plan,
    corrections_made,
    plan,
    uncorrected,
)
from billing_stream.audit.replay.history_source import KafkaSource
from billing_stream.audit.replay.interruptible import run
from billing_stream.audit.replay.replay import Scope
from billing_stream.audit.replay.replay_cli import check_partitions, replay_cluster
from billing_stream.audit.replay.replay_report import Report, read_report
from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.config.settings import Settings
from billing_stream.console.help import help_epilog
from billing_stream.console.options import whoami
from billing_stream.console.output import say
from billing_stream.console.progress import progress, waiting
from billing_stream.domain.ids import derived_id
from billing_stream.engine.partitioner import partition_of
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.consumers import short_producer
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.observability.audit_log import audited_command
from billing_stream.records import topics as known
from billing_stream.records.schemas import correlation_of, encode
from billing_stream.records.topics import Topics

EXIT_LEFT = 1
# Names who sent a command, on the record: what is published names no person.
ORIGIN = "billing-origin"
SHOWN_MAX = 50


@click.command(
    epilog=help_epilog(
        {
            0: "nothing is left to correct",
            1: "something is, as after --dry-run",
            2: "undecided, or wrong usage or settings",
        },
        "billing-stream backfill --dry-run",
        "billing-stream backfill --from report.json   # of replay --json",
        "billing-stream backfill --code HEAD~3 --yes",
    )
)
@click.option(
    "--from",
    "report_file",
    type=click.Path(path_type=Path),
    help="A report of `billing-stream replay --json`; without it, one is made now.",
)
@click.option(
    "--code",
    "revision",
    default=WORKING_TREE,
    show_default=True,
    metavar="REV",
    help="Without --from: the code with the right credits.",
)
@click.option("--merchant", metavar="ID", help="Only this merchant.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def backfill(
    report_file: Path | None, revision: str, merchant: str | None, dry_run: bool, yes: bool
) -> None:
    """Correct credits that a replay finds wrong. Nothing is rewritten.

    For each event that would have granted other credits, an adjustment by the difference is sent
    to billing.commands.v1; workers carry it out and publish it as an event of its own. Done
    twice, it corrects once.
    """
    settings = BackgroundSettings.from_env()
    report = run(_report(settings, report_file, revision, merchant))
    todo = run(_plan(settings, report, merchant.lower() if merchant else None))
    for line in _lines(todo, report):
        say(line)
    if todo.corrections and not dry_run:
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("not a terminal: pass --yes to confirm, or --dry-run")
            click.confirm(f"Send {len(todo.corrections)} adjustments?", abort=True)
        sent = {"adjustments": len(todo.corrections), "code": report.code}
        with (
            audited_command(settings, "backfill", whoami(), **sent),
            waiting("sending adjustments"),
        ):
            run(_send(settings, todo.corrections))
        say(f"{len(todo.corrections)} adjustments sent; workers carry them out")
    if todo.left or (dry_run and todo.corrections):
        sys.exit(EXIT_LEFT)


async def _report(
    settings: Settings, report_file: Path | None, revision: str, merchant: str | None
) -> Report:
    if report_file is not None:
        return read_report(report_file)
    scope = Scope(range(settings.partitions), merchant=merchant.lower() if merchant else None)
    return await replay_cluster(settings, revision, scope)


async def _plan(settings: Settings, report: Report, merchant: str | None) -> Plan:
    if merchant is not None:
        report.differences = [d for d in report.differences if d.merchant_id == merchant]
        report.unproved = [one for one in report.unproved if one == merchant]
    count = settings.partitions
    concerned = {partition_of(merchant_id, count) for merchant_id in report.differing}
    names = Topics(settings.app_id, settings.topic_prefix)
    with progress() as show:
        async with KafkaSource(client_options(settings), show) as source:
            await check_partitions(source, names, count)
            made = await corrections_made(source, names, sorted(concerned))
    return plan(report, made)


def _lines(todo: Plan, report: Report) -> Sequence[str]:
    lines = [
        f"{one.merchant_id} {one.credits:+} credits: {one.reason}"
        for one in todo.corrections[:SHOWN_MAX]
    ]
    if len(todo.corrections) > SHOWN_MAX:
        lines.append(f"... and {len(todo.corrections) - SHOWN_MAX} more")
    total = sum(one.credits for one in todo.corrections)
    lines.append(f"{len(todo.corrections)} to correct, {total:+} credits in all")
    if todo.done:
        lines.append(f"{todo.done} were corrected before")
    lines += [f"left: {why}" for why in todo.left]
    lines += [f"not about credits, and not corrected: {what}" for what in uncorrected(report)]
    return lines


async def _send(settings: Settings, corrections: Sequence[Correction]) -> None:
    topic = Topics(settings.app_id, settings.topic_prefix).name(known.COMMANDS)
    deadline = StartDeadline.of(settings)
    async with short_producer(client_options(settings), deadline, linger_ms=5) as producer:
        sent = [
            await producer.send(
                topic,
                encode(command_of(one, datetime.now(UTC))),
                key=one.merchant_id.encode(),
                partition=partition_of(one.merchant_id, settings.partitions),
                headers=[(ORIGIN, f"backfill by {whoami()}".encode())],
            )
            for one in corrections
        ]
        await asyncio.gather(*sent)


def command_of(one: Correction, now: datetime) -> Mapping[str, Any]:
    """The command, in its envelope."""
    return {
        "event_id": derived_id("command", one.key),
        "event_type": known.COMMANDS,
        "correlation_id": correlation_of(one.key),
        "source_service": "billing-stream backfill",
        "timestamp": now,
        "data": {
            "command": "adjust_credits",
            "merchant_id": one.merchant_id,
            "credits": one.credits,
            "reason": one.reason,
            "idempotency_key": one.key,
        },
    }
