"""A simulated worker: real lanes, and around them what Faust and our transport do."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import Enum
from typing import Any

from msgspec import Struct

from billing_stream.domain.outcomes import TimedReply
from billing_stream.domain.policy import Policy
from billing_stream.engine.crash_points import CrashPoint
from billing_stream.engine.lane import Lane
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.log import Fenced
from billing_stream.engine.partition_inputs import Batch
from billing_stream.engine.partition_processor import Outgoing, Request
from billing_stream.kafka.transaction_offsets import Member
from billing_stream.processor import BillingProcessor, BillingStage
from billing_stream.records import topics as names
from billing_stream.records.operator_commands import InputCommand
from billing_stream.records.schemas import InputRecord
from billing_stream.records.topics import Topics
from tests.simulation.process import ConnectionLost, Crashed, Decide, Process
from tests.simulation.requests import Refused, TopicPartition
from tests.simulation.sim_log import SimClient, SimLog

TOPICS = Topics("app")
RECORD_BYTES_MAX = 2_000
BATCH_MAX = 50


class InputCount(Struct, frozen=True):
    """An input record was taken into a transaction."""

    topic: str
    offset: int


class Decided(Struct, frozen=True):
    """A request was taken into a transaction, and so answered."""

    request: Request
    now: datetime
    answered: TimedReply


class RecordingStage(BillingStage):
    """Notes what it is made of, in order."""

    def __init__(self, processor: "RecordingProcessor") -> None:
        super().__init__(processor)
        self._node = processor.node
        self.done: list[InputCount | Decided] = []

    def add_record(self, topic: str, record: InputRecord) -> bool | InputCommand:
        """As it is, and noted."""
        taken = super().add_record(topic, record)
        self.done.append(InputCount(topic, record.offset))
        return taken

    def add_request(self, request: Request, now: datetime, positions: dict[str, int]) -> TimedReply:
        """As it is, and noted."""
        answered = super().add_request(request, now, positions)
        assert isinstance(answered, TimedReply)
        self.done.append(Decided(request, now, answered))
        self._node.decided_at[request.command.command_id] = now
        return answered

    def outgoing(self) -> Any:
        """As it is; the writer that gets it next is told what it is made of."""
        found: list[Outgoing] = list(super().outgoing())
        self._node.staged[self._processor.partition] = self.done
        return found


class RecordingProcessor(BillingProcessor):
    """The billing of a partition, whose stages note what they are made of."""

    def __init__(
        self,
        node: "Node",
        partition: int,
        partitions: int,
        policy: Policy,
    ) -> None:
        super().__init__(
            partition,
            partitions=partitions,
            policy=policy,
            names=TOPICS,
            max_record_bytes=RECORD_BYTES_MAX,
        )
        self.node = node

    def begin(self) -> RecordingStage:
        """A stage that notes."""
        return RecordingStage(self)


class Phase(Enum):
    """Where a node stands in the group's life."""

    FRESH = "fresh"
    REVOKING = "revoking"
    RECOVERING = "recovering"
    RUNNING = "running"
    DEAD = "dead"


class Node(Process):
    """One worker process."""

    def __init__(
        self,
        name: str,
        log: SimLog,
        decide: Decide,
        *,
        partitions: int,
        policy: Policy,
        clock: Callable[[], datetime],
        commit_interval: float = 0.0,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        super().__init__(name, decide)
        self.log = log
        self.phase = Phase.FRESH
        self.problems: list[str] = []
        # Its transaction was ended by somebody else; what that did is for the audit.
        self.refused: list[str] = []
        self.decided_at: dict[str, datetime] = {}
        self.next: dict[TopicPartition, int] = {}
        self.held: list[Batch] = []
        self.generation_seen = -1
        self.owned: set[int] = set()
        self.taken_back = 0
        self.lanes = Lanes(
            SimClient(log, self),
            lambda p: RecordingProcessor(self, p, partitions, policy),
            positions_topic=TOPICS.changelog(names.BILLING_RECORDS),
            clock=clock,
            commit_interval=commit_interval,
            on_failure=self._on_failure,
            crash_hook=self.crash_hook,
        )
        self.lanes.on_loss = self._on_loss
        self._say = say
        self._task: asyncio.Task[None] | None = None

    # -- the group

    def hear(self, owned: set[int], generation: int) -> None:
        """A new assignment."""
        missed = self.generation_seen not in (-1, generation - 1)
        self.generation_seen, self.owned = generation, owned
        before, self._task = self._task, None
        self.phase = Phase.REVOKING
        self._task = asyncio.create_task(self._rebalance(owned, missed, before))

    async def _rebalance(
        self, owned: set[int], missed: bool, before: "asyncio.Task[None] | None"
    ) -> None:
        try:
            if before is not None:
                before.cancel()
                await asyncio.gather(before, return_exceptions=True)
            await self.lanes.pause()
            await self.lanes.drop(set(self.lanes) - (set() if missed else owned))
            await self._restore(owned - set(self.lanes))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._on_failure("recovery failed", innermost(error))

    def _on_loss(self) -> bool:
        # Not asked whether the group has given it away: to be wrong must not lose anything.
        if self.phase is Phase.RUNNING:
            before, self._task = self._task, None
            self._task = asyncio.create_task(self._take_back(before))
        return self.phase in (Phase.RUNNING, Phase.REVOKING)

    async def _take_back(self, before: "asyncio.Task[None] | None") -> None:
        """As `LaneRecovery` does when a partition was lost, and no others move."""
        try:
            if before is not None:
                before.cancel()
                await asyncio.gather(before, return_exceptions=True)
            await self.lanes.pause()
            lost = self.lanes.lost
            self._say(f"{self.name} takes back {lost}")
            self.taken_back += 1
            await self.lanes.drop(())
            await self._restore(lost)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._on_failure("recovery failed", innermost(error))

    async def _restore(self, partitions: Iterable[int]) -> None:
        self.phase = Phase.RECOVERING
        member = Member("group", self.generation_seen, self.name)
        self.lanes.adopt(await self.lanes.restore(partitions, member))
        await self.gate(None)
        self.seek()
        await self.gate(CrashPoint.SOUGHT)
        self.lanes.start()
        self.phase = Phase.RUNNING

    def seek(self) -> None:
        """As `EngineConsumer.perform_seek`: to the lanes' positions, and a new epoch."""
        self.next = {
            (topic, partition): lane.positions.get(topic, 0)
            for partition, lane in self.lanes.items()
            for topic in names.INPUTS
        }
        self.lanes.next_epoch()

    # -- the end

    def _on_failure(self, why: str, error: BaseException | None) -> None:
        if isinstance(error, Refused):
            self.refused.append(f"{self.name}: {why}: {error!r}")
        elif not isinstance(error, Crashed | ConnectionLost | Fenced):
            self.problems.append(f"{self.name}: {why}: {error!r}")
        self.die(f"{why}: {error!r}")

    def die(self, why: str) -> None:
        """End as a process ends: nothing is tidied up."""
        self.dead = True
        if self.phase is Phase.DEAD:
            return
        self.phase = Phase.DEAD
        self._say(f"{self.name} dies: {why}")
        for task in (self._task, *(lane._task for lane in self.lanes.values())):
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    # -- records in

    def fetch(self, tp: TopicPartition, count: int) -> Batch | None:
        """What the consumer delivers next of an input, as one batch."""
        start = self.next.get(tp)
        if self.phase is not Phase.RUNNING or start is None:
            return None
        records: list[Any] = self.log.visible(tp, start)[:count]
        if not records:
            return None
        self.next[tp] = records[-1].offset + 1
        return Batch(tp[0], records, start, self.lanes.epoch)

    async def deliver(self, batch: Batch, partition: int) -> None:
        """As an agent does."""
        lane = self.lanes.get(partition)
        if lane is not None:
            lane.put(batch)

    def lane_of(self, partition: int) -> Lane[Any] | None:
        """The lane, also when it only believes that the partition is its own."""
        return None if self.dead else self.lanes.get(partition)


def innermost(error: BaseException) -> BaseException:
    """The one cause in groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
