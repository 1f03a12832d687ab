"""The versions of the newest rows in the changelogs, and those that this program knows."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from math import inf
from typing import Any

from aiokafka import TopicPartition

from billing_stream.config.settings import Settings
from billing_stream.kafka.client_options import client_options
from billing_stream.kafka.committed_log import CommittedLog
from billing_stream.kafka.old_rows_currency import with_old_currency
from billing_stream.kafka.start_deadline import StartDeadline
from billing_stream.ops.doctor.finding import Finding, fail, ok, warn
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from billing_stream.records.upcasting.versions import VERSION, version_of

CHECK = "state"
# The first version in which purchases say their currency.
SAID = 3
NEWEST_ROWS = 100
"""How many offsets are looked at, at the end of each partition of each changelog."""


async def check_state(settings: Settings) -> AsyncIterator[Finding]:
    """Which versions of rows are there, in which partitions; reads little, whatever there is.

    All changelogs must be there: a broker may make what a consumer asks for.
    """
    topics = Topics(settings.app_id, settings.topic_prefix)
    tps = [
        TopicPartition(topics.changelog(table), partition)
        for table in names.TABLES
        for partition in range(settings.partitions)
    ]
    found: dict[int, list[Any]] = defaultdict(list)
    async with CommittedLog(client_options(settings)) as log:
        begins, ends = await log.begins(tps), await log.ends(tps, with_open=False)
        starts = {tp: max(begins[tp], ends[tp] - NEWEST_ROWS) for tp in tps}
        async for records in log.read(starts, ends, seconds_max=inf):
            for record in records:
                found[record.partition].append(record)
    sold = topics.changelog(names.CREDIT_PURCHASES)
    old = [r for rows in found.values() for r in rows if r.topic == sold and version_of(r) < SAID]
    if any(record.value for record in old):
        known = await with_old_currency(settings, StartDeadline.of(settings))
        if known.currency_of_old_rows is None:
            yield fail(
                CHECK,
                "purchases of 0.5.1 or older did not store their currency, and it is not known",
                "set BILLING_CURRENCY_OF_OLD_ROWS to what BILLING_CURRENCY was until now",
            )
    for finding in of_versions(
        {partition: [version_of(r) for r in _in_time(rows)] for partition, rows in found.items()}
    ):
        yield finding


def of_versions(found: Mapping[int, Sequence[int]]) -> Iterable[Finding]:
    """Findings about the versions of the newest rows of each partition, in their order."""
    newer = {p: max(versions) for p, versions in found.items() if max(versions) > VERSION}
    if newer:
        yield fail(
            CHECK,
            f"rows of version {max(newer.values())} in partitions {_listed(newer)}: this program "
            f"reads up to {VERSION}, a newer release wrote them",
            "run that release or a later one here; going back is described in "
            "`billing-stream docs upgrade`",
        )
        return
    beside = [p for p, versions in found.items() if versions[-1] < max(versions)]
    if beside:
        yield warn(
            CHECK,
            f"in partitions {_listed(beside)} an older release wrote after one of version "
            f"{max(max(found[p]) for p in beside)}",
            "end the upgrade: stop the workers of the older release "
            "(`billing-stream docs upgrade`)",
        )
        return
    versions = sorted({version for rows in found.values() for version in rows})
    if not versions:
        yield ok(CHECK, f"no rows yet; this program writes version {VERSION}")
    elif versions == [VERSION]:
        yield ok(CHECK, f"the newest rows are of version {VERSION}, as this program writes them")
    else:
        message = " and ".join(map(str, versions))
        yield ok(
            CHECK,
            f"the newest rows are of version {message}: this program reads them, and writes "
            f"{VERSION} when a row changes. Nothing is to be done",
        )


def _in_time(records: Iterable[Any]) -> list[Any]:
    """Of one partition, from several changelogs: in the order in which they were written."""
    return sorted(records, key=lambda record: (record.timestamp, record.offset))


def _listed(partitions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(partitions)))
