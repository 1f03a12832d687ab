"""Notices a worker that lives and makes no progress: first it is not ready, then it ends.

Three things are watched: that recovery continues, that a lane with work waiting commits, and
that records which wait in Kafka are fetched. Each is judged by whether anything moved, not by
how long it takes. A standstill because brokers are away is not a reason to end: the brokers
would not come back by that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping
from time import monotonic
from typing import Any

from msgspec import Struct

from billing_stream.engine.committer import Die
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.stopped_inputs import none_processed, stops

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
SAMPLE_SECONDS = 5.0
# What has stood still for so long may stand because of brokers; to ask them takes so long.
ASK_AFTER = 5.0
ASK_SECONDS = 15.0
# A process that was stopped for a while has not been stuck for that while.
STEP_SECONDS_MAX = 2.0
NOT_READY = "partitions are moving or recovering, or the group is out of reach"
# To end would not bring it back.
NO_ANSWER = "Kafka has not answered"

Behind = Mapping[tuple[str, int], int]
"""Inputs (topic, partition) in which records wait, and where their reader stands."""

AskUnwritable = Callable[[], Awaitable[list[str]]]
"""What no worker could write now, since brokers are away: a line each."""

AskBehind = Callable[[], Awaitable[Behind]]


class _Watched(Struct):
    mark: Hashable
    seconds: float = 0.0


class Watchdog:
    """`look` once a second.

    `ask_lagging` and `ask_unwritable` ask Kafka, and raise when there is no answer; the latter
    only while something makes no progress. `more_warnings` are those that others see, and
    `recovery_waits` what a restore waits for: to end would not help.
    """

    def __init__(
        self,
        lanes: Lanes[Any],
        *,
        ask_lagging: AskBehind | None = None,
        ask_unwritable: AskUnwritable | None = None,
        more_warnings: Callable[[], list[str]] = list,
        recovery_waits: Callable[[], list[str]] = list,
        not_ready_after: float = 30.0,
        exit_after: float = 120.0,
        die: Die,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.lanes = lanes
        self._ask_lagging = ask_lagging
        self._ask_unwritable = ask_unwritable
        self._more_warnings = more_warnings
        self._recovery_waits = recovery_waits
        self._unwritable: list[str] = []
        self._not_ready_after = not_ready_after
        self._exit_after = exit_after
        self._die = die
        self._clock = clock
        self._looked = clock()
        self._answers = 0
        self._behind: Behind = {}
        self._watched: dict[str, _Watched] = {}

    def look(self) -> None:
        """See what moved since the last look."""
        now = self._clock()
        step = min(now - self._looked, STEP_SECONDS_MAX)
        self._looked = now
        marks = self._marks()
        for gone in self._watched.keys() - marks.keys():
            del self._watched[gone]
        for what, mark in marks.items():
            watched = self._watched.get(what)
            if watched is None or watched.mark != mark:
                self._watched[what] = _Watched(mark)
            elif not self._unwritable and not self._recovery_waits():
                watched.seconds += step

    def problems(self) -> list[str]:
        """Why this worker should get no requests now; nothing when it should."""
        self.look()
        found = [] if self.lanes.ready else [NOT_READY]
        found += self._unwritable
        found += self._recovery_waits()
        unreadable = sorted(self.lanes.unreadable.items())
        found += [f"partition {number} does not start: {why}" for number, why in unreadable]
        if none_processed(self.lanes):
            found += [str(stop) for stop in stops(self.lanes)]
        found += [
            f"{what} for {watched.seconds:.0f} s"
            for what, watched in self._watched.items()
            if watched.seconds > self._not_ready_after
        ]
        return found

    def warnings(self) -> list[str]:
        """What an operator has to see to, while this worker takes requests all the same."""
        found = [] if none_processed(self.lanes) else [str(stop) for stop in stops(self.lanes)]
        found += [
            f"input {topic}[{partition}] is not read: its topic is not there"
            for topic, partition in self.lanes.unassigned
        ]
        return [*found, *self._more_warnings()]

    async def watch(self) -> None:
        """Look without end, and end the process when it has been stuck for too long."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sample())
            group.create_task(self._ask_brokers())
            while True:
                self.look()
                for what, watched in self._watched.items():
                    if watched.seconds > self._exit_after and what != NO_ANSWER:
                        self._die(f"{what} for {watched.seconds:.0f} s", None)
                for stop in stops(self.lanes):
                    logger.error("%s", stop, extra={"partition": stop.partition})
                await asyncio.sleep(LOOK_SECONDS)

    def _marks(self) -> dict[str, Hashable]:
        """What should be moving now, with something that changes when it does."""
        if not self.lanes.recovered:
            return {"recovery has not moved": self.lanes.activity}
        marks: dict[str, Hashable] = {}
        for partition, lane in self.lanes.items():
            if not lane.is_idle:
                marks[f"partition {partition} has had work waiting"] = lane.stats.last_commit
        for (topic, partition), position in self._behind.items():
            waiting, name = self.lanes.input(topic, partition)
            if waiting is not None and name not in waiting.stopped:
                mark = (position, waiting.stats.last_commit)
                marks[f"records of {topic}[{partition}] have not been fetched"] = mark
        if self._ask_lagging is not None:
            marks[NO_ANSWER] = self._answers
        return marks

    async def _sample(self) -> None:
        while self._ask_lagging is not None:
            if self.lanes.ready:
                try:
                    async with asyncio.timeout(SAMPLE_SECONDS):
                        self._behind = await self._ask_lagging()
                    self._answers += 1
                except Exception as error:
                    # Whatever it is, the answer is missing, and that is what is told.
                    logger.debug("Kafka was asked how far it is, and did not say: %r", error)
                    self._behind = {}
            else:
                self._behind = {}
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _ask_brokers(self) -> None:
        while self._ask_unwritable is not None:
            await asyncio.sleep(SAMPLE_SECONDS)
            found: list[str] = []
            if self._unwritable or any(w.seconds > ASK_AFTER for w in self._watched.values()):
                try:
                    async with asyncio.timeout(ASK_SECONDS):
                        found = await self._ask_unwritable()
                except Exception as error:
                    # That nobody answers is watched already.
                    logger.debug("brokers were asked what can be written: %r", error)
            if found and not self._unwritable:
                logger.warning("brokers are away, and work waits for them: %s", "; ".join(found))
            if self._unwritable and not found:
                logger.info("all partitions can be written again")
            self._unwritable = found
