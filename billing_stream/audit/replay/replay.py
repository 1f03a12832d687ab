"""The whole replay: read each partition, decide its merchants again, compare."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from billing_stream.audit.replay.code import Code
from billing_stream.audit.replay.core.records import Difference, Recorded
from billing_stream.audit.replay.history_source import Progress, Source
from billing_stream.audit.replay.recorded_history import History, read_partition
from billing_stream.audit.replay.replay_report import Report
from billing_stream.engine.partitioner import partition_of
from billing_stream.records.record_ref import RecordRef
from billing_stream.records.topics import JOURNAL, Topics

MERCHANTS_PER_PROGRESS = 50


@dataclass(frozen=True)
class Scope:
    """Which differences are asked for. The whole history is decided in any case.

    `topics` (full names): in what records of these topics caused, the journal among them.
    `since`: in what happened from then on.
    """

    partitions: Sequence[int]
    topics: Collection[str] = ()
    merchant: str | None = None
    since: datetime | None = None


async def replay(
    source: Source,
    names: Topics,
    partitions: int,
    code: Code,
    scope: Scope,
    policy: dict[str, object],
    progress: Progress | None = None,
) -> Report:
    """Decide everything again and report every difference. Raises ReplayError."""
    began = time.monotonic()
    report = Report(code=code.name, policy=policy, began_at=datetime.now(UTC))
    wanted = scope.partitions
    if scope.merchant is not None:
        wanted = [partition_of(scope.merchant, partitions)]
    for partition in wanted:
        history = await read_partition(source, names, partition, partitions, scope.merchant)
        await _replay_partition(history, names, code, scope, report, progress)
    report.seconds = time.monotonic() - began
    return report


async def _replay_partition(
    history: History,
    names: Topics,
    code: Code,
    scope: Scope,
    report: Report,
    progress: Progress | None,
) -> None:
    report.records += history.records
    report.waiting += len(history.waiting)
    report.moving += sorted(history.moving)
    report.differences += [
        difference for difference in _nameless(history) if _in_scope(difference, names, scope)
    ]
    for number, recorded in enumerate(history.merchants.values(), 1):
        if progress is not None and number % MERCHANTS_PER_PROGRESS == 0:
            progress(f"partition {history.partition}", number, len(history.merchants))
        if recorded.merchant_id in history.moving or not _concerns(recorded, scope):
            continue
        report.merchants += 1
        outcome = await code.replay(recorded)
        report.differences += [d for d in outcome.differences if _in_scope(d, names, scope)]
        report.by_older_rules += outcome.by_older_rules
        if recorded.unproved:
            report.unproved.append(recorded.merchant_id)
            report.unproved_records += recorded.unproved
    if progress is not None:
        count = len(history.merchants)
        progress(f"partition {history.partition}", count, count)


def _nameless(history: History) -> list[Difference]:
    """Records that no code can give to a merchant are dead letters."""
    return [
        Difference(
            merchant_id="",
            kind="dead letter extra",
            type=ref.rpartition("[")[0],
            subject=ref,
            replayed="it names no merchant",
            cause=ref,
        )
        for ref in history.nameless
        if ref not in history.letters
    ]


def _concerns(recorded: Recorded, scope: Scope) -> bool:
    """Whether anything of a merchant is in the scope."""
    if scope.topics:
        read = {one.topic for one in recorded.inputs}
        read |= {entry.ref.rpartition("[")[0] for entry in recorded.entries}
        if not read & set(scope.topics):
            return False
    if scope.since is None:
        return True
    since_ms = scope.since.timestamp() * 1000
    if any(one.timestamp >= since_ms for one in recorded.inputs):
        return True
    return any(datetime.fromisoformat(event.at) >= scope.since for event in recorded.events)


def _in_scope(found: Difference, names: Topics, scope: Scope) -> bool:
    since, at = scope.since, found.at
    if since is not None and at is not None and datetime.fromisoformat(at) < since:
        return False
    if not scope.topics or found.cause is None:
        return True
    try:
        topic, _, _ = RecordRef.parse(found.cause)
    except ValueError:
        topic = names.name(JOURNAL)
    return topic in scope.topics
