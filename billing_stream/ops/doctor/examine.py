"""All checks in their order; what a cause makes useless is not looked at, and that is stated."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import asyncpg
from aiokafka.errors import KafkaError

from billing_stream.config.env_file import settings_in_files
from billing_stream.config.settings import Settings
from billing_stream.errors import BillingError
from billing_stream.ops.doctor import (
    broker_checks,
    changelog_checks,
    database_checks,
    input_checks,
    machine,
    port_checks,
    topic_checks,
    work_checks,
)
from billing_stream.ops.doctor.catalogue_checks import check_catalogue
from billing_stream.ops.doctor.clock_checks import check_clocks
from billing_stream.ops.doctor.finding import Finding, Verdict, fail, skip
from billing_stream.ops.doctor.peer_checks import check_peers
from billing_stream.ops.doctor.transaction_checks import check_open_transactions, check_transactions
from billing_stream.ops.doctor.webhook_checks import check_webhooks

AGAIN_SECONDS = 0.5
Check = Callable[[Settings], AsyncIterator[Finding]]
BROKERS, TOPICS, WORKERS = "brokers", "topics", "workers"


class Step(NamedTuple):
    """A check that needs most of the brokers, and another check to have found nothing wrong."""

    name: str
    check: Check
    needs: str = BROKERS


OF_THE_CLUSTER = (
    Step(TOPICS, topic_checks.check_every_topic),
    Step("rights", topic_checks.check_rights),
    Step("transactions", check_transactions),
    Step(WORKERS, topic_checks.check_workers),
    Step("peers", check_peers, WORKERS),
    Step("ready", work_checks.check_ready, WORKERS),
    Step("worker clocks", check_clocks, WORKERS),
    Step("open transactions", check_open_transactions, TOPICS),
    Step("state", changelog_checks.check_state, TOPICS),
    Step("inputs", input_checks.check_inputs, TOPICS),
    Step("lag", work_checks.check_lag, TOPICS),
    Step("dead letters", work_checks.check_letters, TOPICS),
    Step("catalogue", check_catalogue, TOPICS),
    Step("projector", work_checks.check_projector),
)


async def examine(settings: Settings, seconds: float) -> AsyncIterator[Finding]:
    """Every finding, one after the other; no check takes longer than `seconds`."""
    for finding in machine.check_settings(settings, [*os.environ, *settings_in_files()]):
        yield finding
    for finding in machine.check_disk(settings):
        yield finding
    for finding in await _within(seconds, port_checks.CHECK, port_checks.check_ports, settings):
        yield finding
    async for finding in _of_kafka(settings, seconds):
        yield finding
    for name, check in (
        ("webhooks", check_webhooks),
        ("postgresql", database_checks.check_database),
    ):
        for finding in await _within(seconds, name, check, settings):
            yield finding


async def _of_kafka(settings: Settings, seconds: float) -> AsyncIterator[Finding]:
    seen = broker_checks.Brokers()
    for finding in await _within(seconds, BROKERS, seen.check, settings):
        yield finding
    if seen.seen.brokers:
        for finding in await _within(seconds, "replicas", seen.check_replicas, settings):
            yield finding
    if not seen.seen.most:
        replicas = [] if seen.seen.brokers else ["replicas"]
        yield skip(BROKERS, [*replicas, *(step.name for step in OF_THE_CLUSTER)])
        return
    wrong: set[str] = set()
    for name, check, needs in OF_THE_CLUSTER:
        if needs in wrong:
            continue
        found = await _within(seconds, name, check, settings)
        for finding in found:
            yield finding
        others = [step.name for step in OF_THE_CLUSTER if step.needs == name]
        if others and any(map(_leaves_nothing, found)):
            wrong.add(name)
            yield skip(name, others)


def _leaves_nothing(finding: Finding) -> bool:
    return finding.verdict is Verdict.FAIL or finding.message == topic_checks.NONE_RUN


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
        # One check that breaks down must not keep the others from being made.
        text = str(error) or type(error).__name__
        found.append(fail(name, f"could not be looked at: {text}", "fix this first"))
    return found
