"""`billing-stream replay`."""

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from billing_stream.audit.replay.code import WORKING_TREE, code_of, own_numbers
from billing_stream.audit.replay.history_source import KafkaSource, ReplayError
from billing_stream.audit.replay.interruptible import run
from billing_stream.audit.replay.replay import Scope, replay
from billing_stream.audit.replay.replay_report import Report
from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.config.settings import Settings
from billing_stream.console.help import help_epilog
from billing_stream.console.options import STANDARD_OUTPUT, Moment, json_option
from billing_stream.console.output import say, say_json
from billing_stream.console.progress import progress
from billing_stream.kafka.added_partitions import require_lanes
from billing_stream.kafka.client_options import client_options
from billing_stream.records import topics as known
from billing_stream.records.topics import Topics

EXIT_DIFFERENCES = 1
REPLAYED = (*known.OF_MERCHANTS, known.OPERATOR_COMMANDS, known.JOURNAL)


class Partitions(click.ParamType):
    """`0,3,5-7`."""

    name = "LIST"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:
        """The numbers, each once, in order."""
        found: set[int] = set()
        try:
            for part in str(value).split(","):
                first, _, last = part.partition("-")
                found.update(range(int(first), int(last or first) + 1))
        except ValueError:
            self.fail(f"{value!r} is not a list of partitions such as 0,3,5-7", param, ctx)
        return sorted(found)


@click.command(
    "replay",
    epilog=help_epilog(
        {
            0: "nothing would be otherwise",
            1: "something would",
            2: "undecided, or wrong usage or settings",
        },
        "billing-stream replay                      # does this code decide the same?",
        "billing-stream replay --code HEAD~3 --partitions 0-3",
        "billing-stream replay --since 2026-01-31T00:00:00Z --json report.json",
    ),
)
@click.option(
    "--code",
    "revision",
    default=WORKING_TREE,
    show_default=True,
    metavar="REV",
    help="The code that decides: a git revision, or the code that is here.",
)
@click.option(
    "--topics",
    multiple=True,
    metavar="TOPIC",
    help="Differences in what records of this topic caused (repeat it, or comma separated).",
)
@click.option("--partitions", type=Partitions(), help="Only these partitions, e.g. 0,3,5-7.")
@click.option("--merchant", metavar="ID", help="Only this merchant.")
@click.option("--since", type=Moment(), help="Differences in what happened from then on.")
@json_option("All of it as a JSON object")
@click.option(
    "--max-examples", default=3, show_default=True, help="Shown of each kind of difference."
)
def replay_command(
    revision: str,
    topics: Sequence[str],
    partitions: list[int] | None,
    merchant: str | None,
    since: datetime | None,
    json_to: Path | None,
    max_examples: int,
) -> None:
    """Decide the recorded input again, and report what would be otherwise. Publishes nothing.

    Every merchant's history is decided from its beginning by the rules of --code and under the
    settings of this environment; every event, dead letter and row that differs from what was
    recorded is reported.
    """
    settings = BackgroundSettings.from_env()
    names = Topics(settings.app_id, settings.topic_prefix)
    scope = Scope(
        _checked(partitions, settings.partitions),
        _full_names(topics, names),
        merchant.lower() if merchant else None,
        since,
    )
    report = run(replay_cluster(settings, revision, scope))
    if json_to is not None:
        say_json(report, json_to)
    if json_to != STANDARD_OUTPUT:
        for line in report.lines(max_examples):
            say(line)
    if report.differences:
        sys.exit(EXIT_DIFFERENCES)


async def replay_cluster(settings: Settings, revision: str, scope: Scope) -> Report:
    """Replay the history on the cluster of these settings. Raises ReplayError."""
    names = Topics(settings.app_id, settings.topic_prefix)
    policy, most = settings.policy, settings.max_record_bytes
    async with AsyncExitStack() as stack:
        show = stack.enter_context(progress())
        code = await stack.enter_async_context(code_of(revision, policy, most))
        source = KafkaSource(client_options(settings), show)
        await stack.enter_async_context(source)
        await check_partitions(source, names, settings.partitions)
        report = await replay(
            source, names, settings.partitions, code, scope, own_numbers(policy), show
        )
    if scope.merchant is not None and not report.merchants and not report.moving:
        raise ReplayError(f"nothing is recorded of merchant {scope.merchant}: is it an id?")
    return report


async def check_partitions(source: KafkaSource, names: Topics, partitions: int) -> None:
    """Raises ReplayError or TopicsError when topics are not there, or rows in other partitions."""
    journal = names.name(known.JOURNAL)
    found = source.partitions(journal)
    if not found:
        raise ReplayError(
            f"topic {journal} is not there; BILLING_TOPIC_PREFIX and KAFKA_BOOTSTRAP_SERVERS "
            "say where it is looked for, and `billing-stream topics create` makes it"
        )
    if found < partitions:
        raise ReplayError(
            f"topic {journal} has {found} partitions, and BILLING_PARTITIONS says {partitions}: "
            "set it to what there is"
        )
    rows = names.changelog(known.BILLING_RECORDS)
    await require_lanes(source.log.options, names, {rows: source.partitions(rows)}, partitions)


def _checked(partitions: list[int] | None, count: int) -> Sequence[int]:
    if partitions is None:
        return range(count)
    if partitions[-1] >= count:
        raise click.BadParameter(f"there are {count} partitions, 0 to {count - 1}")
    return partitions


def _full_names(topics: Sequence[str], names: Topics) -> list[str]:
    asked = [name for text in topics for name in text.split(",") if name]
    found = [names.base(name) for name in asked]
    for name in found:
        if name not in REPLAYED:
            raise click.BadParameter(f"{name} is not an input; there are: {', '.join(REPLAYED)}")
    return [names.name(name) for name in found]
