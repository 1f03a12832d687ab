"""`billing-stream explain`."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from billing_stream.audit.explain.account import Explanation
from billing_stream.audit.explain.account import explain as explained
from billing_stream.audit.explain.account_text import lines
from billing_stream.audit.replay.code import own_numbers
from billing_stream.audit.replay.core.records import Job
from billing_stream.audit.replay.core.replayer import replayer
from billing_stream.audit.replay.history_source import KafkaSource, ReplayError
from billing_stream.audit.replay.interruptible import run
from billing_stream.audit.replay.recorded_history import History, read_partition
from billing_stream.audit.replay.replay_cli import check_partitions
from billing_stream.config.background_settings import BackgroundSettings
from billing_stream.config.settings import Settings
from billing_stream.console.help import help_epilog
from billing_stream.console.options import STANDARD_OUTPUT, Moment, json_option
from billing_stream.console.output import say, say_json
from billing_stream.console.progress import Progress, progress
from billing_stream.domain.commands import UUID_TEXT
from billing_stream.domain.shop_names import sought_shop
from billing_stream.engine.partitioner import partition_of
from billing_stream.kafka.client_options import client_options
from billing_stream.records import topics as known
from billing_stream.records.topics import Topics
from billing_stream.tables import codecs

EXIT_DOES_NOT_ADD_UP = 1
# A merchant that changes while it is read is read again.
ATTEMPTS = 5


@click.command(
    "explain",
    epilog=help_epilog(
        {
            0: "the credits add up to the balance",
            1: "they do not",
            2: "undecided, or wrong usage or settings",
        },
        "billing-stream explain 11111111-1111-4111-8111-111111111111",
        "billing-stream explain shopify:one.myshopify.com --at 2026-01-31T12:00:00Z",
    ),
)
@click.argument("merchant")
@click.option("--at", type=Moment(), help="At this time, e.g. 2026-01-31T12:00:00Z; now, without.")
@json_option("All of it as a JSON object")
def explain(merchant: str, at: datetime | None, json_to: Path | None) -> None:
    """A merchant at a time, all that had happened, and where each credit came from.

    MERCHANT is its id, or its shop as platform:domain. Kafka alone is asked. Each credit names
    the record that caused it.
    """
    settings = BackgroundSettings.from_env()
    with progress() as show:
        found = run(explain_merchant(settings, merchant, at, show))
    if json_to is not None:
        say_json(found, json_to)
    if json_to != STANDARD_OUTPUT:
        for line in lines(found):
            say(line)
    if found.faults:
        sys.exit(EXIT_DOES_NOT_ADD_UP)


async def explain_merchant(
    settings: Settings, merchant: str, at: datetime | None, show: Progress | None = None
) -> Explanation:
    """The explanation, from the cluster of these settings. Raises ReplayError."""
    names = Topics(settings.app_id, settings.topic_prefix)
    options = client_options(settings)
    async with KafkaSource(options, show) as source:
        await check_partitions(source, names, settings.partitions)
        merchant_id = await _merchant_id(source, names, settings.partitions, merchant)
    partition = partition_of(merchant_id, settings.partitions)
    for _ in range(ATTEMPTS):
        async with KafkaSource(options, show) as source:
            history = await read_partition(
                source, names, partition, settings.partitions, merchant_id
            )
        if not history.moving:
            break
    return _explained(settings, history, merchant_id, at or datetime.now(UTC))


def _explained(settings: Settings, history: History, merchant_id: str, at: datetime) -> Explanation:
    if history.moving:
        raise ReplayError(f"merchant {merchant_id} changes as it is read: try again")
    recorded = history.merchants.get(merchant_id)
    if recorded is None:
        raise ReplayError(
            f"nothing is recorded of merchant {merchant_id}: is that its id? It can be named by "
            "its shop, too, as platform:domain"
        )
    job = Job(
        root="", policy=own_numbers(settings.policy), max_record_bytes=settings.max_record_bytes
    )
    outcome = replayer(job, steps=True)(recorded)
    return explained(recorded, outcome, history.partition, at)


async def _merchant_id(source: KafkaSource, names: Topics, partitions: int, merchant: str) -> str:
    if re.match(UUID_TEXT, merchant):
        return merchant.lower()
    if ":" not in merchant:
        raise ReplayError(f"{merchant!r} is neither a merchant's id nor a shop, platform:domain")
    shop = sought_shop(*merchant.split(":", 1))
    owner = None
    topic = names.changelog(known.SHOPS_TABLE)
    async for records in source.read([topic], partition_of(shop, partitions)):
        for record in records:
            if (record.key or b"").decode("utf-8", "replace") == shop:
                owner = codecs.shop(record.value).merchant_id if record.value else None
    if owner is None:
        raise ReplayError(
            f"the shop {shop} has no merchant: is that its platform and domain, as in "
            "shopify:anna.example? A forgotten merchant is found by its id only"
        )
    return owner
