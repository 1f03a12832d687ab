"""`billing-stream forget`."""

import asyncio
import re
import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import click

from billing_stream.audit.verify.log_source import KafkaSource
from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.console.help import EXIT_WRONG, help_epilog
from billing_stream.console.options import Duration, whoami
from billing_stream.console.output import say
from billing_stream.console.progress import progress, waiting
from billing_stream.domain.commands import UUID_TEXT
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.kafka.topic_admin import require_topics
from billing_stream.observability.audit_log import audited_command
from billing_stream.ops.forget import requesting, residual_data
from billing_stream.ops.forget.requesting import ForgetOutcome, ForgetResult
from billing_stream.records.topics import Topics

EXIT_NOT_FORGOTTEN = 1
SHOWN_MAX = 5


class Merchant(click.ParamType):
    """A merchant id."""

    name = "merchant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The id in lower case."""
        if re.match(UUID_TEXT, value) is None:
            self.fail(f"{value!r} is not a merchant id (a uuid)", param, ctx)
        return str(value).lower()


@click.command(
    epilog=help_epilog(
        {
            0: "it is done, or was before",
            1: "it was refused, or not carried out in time",
            2: EXIT_WRONG,
        },
        "billing-stream forget 11111111-1111-4111-8111-111111111111",
        "billing-stream forget 11111111-1111-4111-8111-111111111111 --yes --remains",
    )
)
@click.argument("merchant", type=Merchant())
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", type=Duration(), default="60s", show_default=True, help="For the outcome.")
@click.option(
    "--remains",
    "look",
    is_flag=True,
    help="Then look for personal data in topics that are kept permanently; reads them all.",
)
def forget(merchant: str, yes: bool, wait: timedelta, look: bool) -> None:
    """Erase the personal data of MERCHANT (its id); financial records are kept.

    Removed: the shop's domain, former ones too, checkout pages, platforms' reasons of failed
    checkouts, stored answers. Kept: credits, purchases, amounts, charges, adjustments, events.
    It cannot be undone; a merchant that installs the app again is known again, its trial used.

    Goes to billing.commands.v1, so a worker must run.
    """
    settings = BackgroundSettings.from_env()
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("not a terminal: pass --yes to confirm")
        click.confirm(f"erase the personal data of merchant {merchant}?", abort=True)
    topics = Topics(settings.app_id, settings.topic_prefix)
    options = client_options(settings)
    deadline = StartDeadline.of(settings)
    # On other partitions than the topics have, no worker would find it.
    asyncio.run(require_topics(settings, topics.all(), deadline))
    asked = requesting.forget(
        options,
        topics,
        settings.partitions,
        merchant,
        seconds_max=wait.total_seconds(),
        deadline=deadline,
    )
    with (
        audited_command(settings, "forget", whoami(), merchant=merchant) as said,
        waiting("waiting for a worker to carry it out"),
    ):
        outcome = asyncio.run(asked)
        said |= {"outcome": outcome.fate.name, "record": outcome.ref}
    say(_outcome_text(outcome, merchant))
    if outcome.fate in (ForgetOutcome.REFUSED, ForgetOutcome.WAITING):
        sys.exit(EXIT_NOT_FORGOTTEN)
    if look:
        with progress() as show:
            source = KafkaSource(options, settings.partitions, show)
            found = asyncio.run(residual_data.find(source, topics, merchant))
        _show(found)


def _outcome_text(outcome: ForgetResult, merchant: str) -> str:
    match outcome.fate:
        case ForgetOutcome.FORGOTTEN:
            return f"merchant {merchant} is forgotten ({outcome.ref})"
        case ForgetOutcome.BEFORE:
            return f"merchant {merchant} was forgotten before: nothing was left to remove"
        case ForgetOutcome.REFUSED:
            return f"refused: {outcome.why} ({outcome.ref} is a dead letter)"
        case ForgetOutcome.WAITING:
            return (
                f"not carried out yet: {outcome.ref} waits for a worker, which will do it. "
                "Does one run? The same command again is safe, and prints the outcome"
            )


def _show(found: Iterable[residual_data.ResidualData]) -> None:
    found = list(found)
    if not found:
        say("nothing personal is left in the topics that are kept permanently")
        return
    say(
        "still in topics that are kept permanently "
        "(`billing-stream docs operators`, What Kafka keeps):"
    )
    for one in found:
        places = ", ".join(f"@{offset}" for offset in one.offsets[:SHOWN_MAX])
        more = f" and {len(one.offsets) - SHOWN_MAX} more" if len(one.offsets) > SHOWN_MAX else ""
        say(f"  {one.topic}[{one.partition}]{places}{more}: {', '.join(one.what)}")
