"""`billing-stream doctor`."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import asyncpg
import click
from aiokafka.errors import KafkaError

from billing_stream.config.env_file import settings_in_files
from billing_stream.config.settings import Settings
from billing_stream.console.help import help_epilog
from billing_stream.console.options import STANDARD_OUTPUT, json_option
from billing_stream.console.output import say, say_json
from billing_stream.errors import BillingError
from billing_stream.ops.doctor import (
    broker_checks,
    changelog_checks,
    database_checks,
    input_checks,
    machine,
    topic_checks,
)
from billing_stream.ops.doctor.catalogue_checks import check_catalogue
from billing_stream.ops.doctor.clock_checks import check_clocks
from billing_stream.ops.doctor.finding import Finding, Verdict, fail
from billing_stream.ops.doctor.peer_checks import check_peers
from billing_stream.ops.doctor.transaction_checks import check_open_transactions, check_transactions
from billing_stream.ops.doctor.webhook_checks import check_webhooks

AGAIN_SECONDS = 0.5
OPEN_TRANSACTIONS = "billing_stream.kafka.open_transactions"
COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
Check = Callable[[Settings], AsyncIterator[Finding]]
# What these need is that most of the brokers answer.
OF_THE_CLUSTER: tuple[tuple[str, Check], ...] = (
    ("topics", topic_checks.check_every_topic),
    ("rights", topic_checks.check_rights),
    ("transactions", check_transactions),
    ("workers", topic_checks.check_workers),
    ("peers", check_peers),
    ("open transactions", check_open_transactions),
    ("worker clocks", check_clocks),
    ("state", changelog_checks.check_state),
    ("inputs", input_checks.check_inputs),
    ("catalogue", check_catalogue),
)
# Whose failure leaves nothing to look at.
NEEDED: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("state", "open transactions", "inputs", "catalogue"), "topics")
)


async def examine(settings: Settings, seconds: float) -> AsyncIterator[Finding]:
    """Every finding, one after the other; no check takes longer than `seconds`."""
    for finding in machine.check_settings(settings, _names()):
        yield finding
    for finding in machine.check_disk(settings):
        yield finding
    seen = broker_checks.Brokers()
    for finding in await _within(seconds, "brokers", seen.check, settings):
        yield finding
    if seen.seen.brokers:
        for finding in await _within(seconds, "replicas", seen.check_replicas, settings):
            yield finding
    wrong: set[str] = set()
    for name, check in OF_THE_CLUSTER if seen.seen.most else ():
        if NEEDED.get(name) in wrong:
            continue
        for finding in await _within(seconds, name, check, settings):
            if finding.verdict is Verdict.FAIL:
                wrong.add(name)
            yield finding
    for finding in await _within(seconds, "webhooks", check_webhooks, settings):
        yield finding
    for finding in await _within(seconds, "postgresql", database_checks.check_database, settings):
        yield finding


async def _within(seconds: float, name: str, check: Check, settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    trouble = ""
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    async for finding in check(settings):
                        found.append(finding)
                    return found
                except KafkaError as error:
                    # Just after a broker was lost the others do not know yet who takes over.
                    if not error.retriable:
                        raise
                    found.clear()
                    trouble = f" ({error})"
                await asyncio.sleep(AGAIN_SECONDS)
    except TimeoutError:
        message = f"no answer within {seconds:g} s{trouble}"
        found.append(fail(name, message, "look at the network, or wait --timeout"))
    except (KafkaError, BillingError, asyncpg.PostgresError, OSError) as error:
        # One check that breaks down must not keep the others from telling.
        text = str(error) or type(error).__name__
        found.append(fail(name, f"could not be looked at: {text}", "mend this first"))
    return found


def _names() -> list[str]:
    return [*os.environ, *settings_in_files()]


@click.command(
    epilog=help_epilog(
        {
            0: "nothing fails; there may be warnings",
            1: "something fails",
            2: "the settings are not right, or wrong usage",
        },
        "billing-stream doctor",
        "billing-stream doctor --json | jq '.[] | select(.verdict != \"OK\")'",
    )
)
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds that each check may take.",
)
@json_option("One JSON list")
def doctor(seconds: float, json_to: Path | None) -> None:
    """Look at everything that a worker needs, and say what to do where it is not right.

    Settings, the data folder, brokers, topics, what this user may do, the workers that run and
    whether they accept our tokens, transactions that are open, the version of the rows, stopped
    inputs, changed input topics, whether settings or a version of the catalogue decide which packs
    are on sale, the webhooks that platforms are set up to send, PostgreSQL, the schema of the
    projection, the clock. Nothing is changed.
    """
    # What is logged of a broker that is away, or not ready, is a finding.
    for name in ("aiokafka", "billing_stream.kafka.start_deadline", OPEN_TRANSACTIONS):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.exit(asyncio.run(_run(Settings.from_env(), seconds, json_to)))


async def _run(settings: Settings, seconds: float, json_to: Path | None) -> int:
    found = []
    async for finding in examine(settings, seconds):
        found.append(finding)
        if json_to != STANDARD_OUTPUT:
            _tell(finding)
    if json_to is not None:
        say_json(found, json_to)
    return int(any(finding.verdict is Verdict.FAIL for finding in found))


def _tell(finding: Finding) -> None:
    verdict = f"{finding.verdict:4}", COLOURS[finding.verdict]
    say(f"  {finding.check}: {finding.message}", verdict=verdict)
    if finding.action:
        say(f"      -> {finding.action}")
