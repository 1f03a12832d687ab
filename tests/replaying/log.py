"""A log in memory, read as the cluster is; and replays of it."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from billing_stream.audit.replay.code import WorkingTree, own_numbers
from billing_stream.audit.replay.core.records import Difference, Job
from billing_stream.audit.replay.history_source import Source
from billing_stream.audit.replay.replay import Scope, replay
from billing_stream.audit.replay.replay_report import Report
from billing_stream.domain.policy import Policy
from billing_stream.records.topics import Topics
from tests.verify.world import PARTITIONS, POLICY, TOPICS, Copy


class CopySource:
    """As `Source`, of a copy of a log; `later` is the log when changelogs are read again."""

    def __init__(self, copy: Copy, later: Callable[[], Copy] | None = None) -> None:
        self._copy = copy
        self._later = later
        self._reached: dict[tuple[str, int], int] = {}

    async def read(self, topics: Sequence[str], partition: int) -> AsyncIterator[Sequence[Any]]:
        """As `Source.read`."""
        if self._later is not None and (topics[0], partition) in self._reached:
            self._copy = self._later()
        for topic in topics:
            begin = self._reached.get((topic, partition), 0)
            records = self._copy.logs.get((topic, partition), [])
            self._reached[topic, partition] = records[-1].offset + 1 if records else 0
            yield [record for record in records if record.offset >= begin]


async def replayed(
    copy: Copy, policy: Policy = POLICY, scope: Scope | None = None, source: Source | None = None
) -> Report:
    """The replay of a copy, under the code that is here."""
    return await replay_source(source or CopySource(copy), TOPICS, PARTITIONS, policy, scope)


async def replay_source(
    source: Source,
    names: Topics,
    partitions: int,
    policy: Policy,
    scope: Scope | None = None,
) -> Report:
    """The replay of any log, under the code that is here."""
    wanted = scope or Scope(range(partitions))
    return await replay(source, names, partitions, working_tree(policy), wanted, {})


def working_tree(policy: Policy) -> WorkingTree:
    """The code that is here, under these numbers."""
    return WorkingTree(Job(root="", policy=own_numbers(policy), max_record_bytes=100_000))


def kinds(report: Report) -> set[tuple[str, str, str | None]]:
    """What kinds of differences there are."""
    return {(found.kind, found.type, found.field) for found in report.differences}


def text(report: Report) -> str:
    """For the message of a failed test."""
    return "\n".join(report.lines(5))


def of(report: Report, kind: str, field: str | None = None) -> list[Difference]:
    """The differences of one kind, in one field."""
    return [d for d in report.differences if (d.kind, d.field) == (kind, field)]
