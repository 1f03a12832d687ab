"""Shadow mode: both services are fed, and what they know is held against each other."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from billing_stream.config.settings import Settings
from billing_stream.console.progress import progress, waiting
from billing_stream.kafka.client_options import client_options
from billing_stream.migration.comparing import Comparison, Difference, in_all
from billing_stream.migration.current_rows import read_locally
from billing_stream.migration.findings import Findings
from billing_stream.migration.migration_report import Report
from billing_stream.migration.old_database import PURCHASES, RECORDS, reading
from billing_stream.migration.old_merchants import merchants, note_columns
from billing_stream.records.topics import Topics


async def shadow(
    settings: Settings, url: str, *, looks: int, grace: timedelta, differences_max: int = 20
) -> Report:
    """Look several times, `grace` apart, and report what differed each time. Only reads.

    Data on its way to one of the two when it is looked at differs once, and not again.
    """
    began = time.monotonic()
    found: list[list[Difference]] = []
    report = Report(Findings())
    for number in range(1, looks + 1):
        if number > 1:
            if not found[-1]:
                break
            with waiting(f"waiting {grace} for look {number}"):
                await asyncio.sleep(grace.total_seconds())
        report, differences = await _look(settings, url, f"look {number}")
        found.append(differences)
    report.differences = in_all(found)
    report.strict = True
    report.differences_max = differences_max
    report.seconds = time.monotonic() - began
    return report


async def _look(settings: Settings, url: str, label: str) -> tuple[Report, list[Difference]]:
    report = Report(Findings())
    topics = Topics(settings.app_id, settings.topic_prefix)
    options: Mapping[str, Any] = client_options(settings)
    async with reading(url) as old:
        await note_columns(old, report.findings)
        with progress() as show:
            here = await read_locally(options, topics, settings.partitions, show)
        comparison = Comparison(here, datetime.now(UTC))
        async for command in merchants(old, settings.policy, report.findings, label):
            report.expected[RECORDS] += 1
            report.expected[PURCHASES] += len(command.purchases)
            comparison.take(command)
    comparison.finish()
    report.comparison = comparison
    return report, [d for d in comparison.differences if not _is_by_design(d)]


def _is_by_design(difference: Difference) -> bool:
    """Each of the two has a clock of its own."""
    return difference.kind == "time" and difference.moved_on
