"""What verify and replay say of a simulated log."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from billing_stream.audit.replay.replay_report import Report as ReplayReport
from billing_stream.audit.verify.verifier import verify_source
from billing_stream.audit.verify.verify_report import Report
from billing_stream.domain.policy import Policy
from tests.replaying.log import replay_source
from tests.simulation.node import RECORD_BYTES_MAX, TOPICS
from tests.simulation.sim_log import SimLog
from tests.simulation.world import POLICY, World
from tests.support.oracle import rules_of

RULES = replace(rules_of(POLICY), record_bytes_max=RECORD_BYTES_MAX)


class Verified:
    """As `Source` of the verifier: aborted transactions and markers left out."""

    def __init__(self, log: SimLog) -> None:
        self._log = log

    async def read(self, topics: Sequence[str]) -> AsyncIterator[Sequence[Any]]:
        """As `Source.read`."""
        for topic, partition in sorted(self._log.topics):
            if topic in topics:
                yield list(self._log.visible((topic, partition)))

    def begins_late(self) -> Sequence[tuple[str, int]]:
        """Nothing is deleted."""
        return ()


class Replayed:
    """As `Source` of the replay: aborted transactions and markers left out."""

    def __init__(self, log: SimLog) -> None:
        self._log = log
        self._reached: dict[tuple[str, int], int] = {}

    async def read(self, topics: Sequence[str], partition: int) -> AsyncIterator[Sequence[Any]]:
        """As `Source.read`."""
        for topic in topics:
            tp = (topic, partition)
            start, self._reached[tp] = self._reached.get(tp, 0), self._log.last_stable(tp)
            yield self._log.visible(tp, start)


def verified(world: World) -> Report:
    """The verification of its log."""
    source = Verified(world.log)
    return asyncio.run(verify_source(source, TOPICS, world.partitions, RULES))


def replayed(world: World, policy: Policy = POLICY) -> ReplayReport:
    """The replay of its log."""
    source = Replayed(world.log)
    return asyncio.run(replay_source(source, TOPICS, world.partitions, policy))


def not_proved(world: World) -> str | None:
    """Why its log is not proved, or its replay not exact; None when all is so."""
    report, again = verified(world), replayed(world)
    if not report.ok:
        return "\n".join(report.lines())
    if again.differences or again.unproved:
        return "\n".join(again.lines(5))
    return None
