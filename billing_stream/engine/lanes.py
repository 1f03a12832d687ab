"""The lanes that this worker owns: made by restore, dropped whole when revoked."""

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Generic

from msgspec import Struct

from billing_stream.engine.changelog_ids import StoredIds, created_again
from billing_stream.engine.commit_scheduler import COMMIT_INTERVAL_SECONDS, CommitScheduler
from billing_stream.engine.committer import Clock, Die, P
from billing_stream.engine.crash_points import CrashHook, CrashPoint, no_crash
from billing_stream.engine.fatal import die
from billing_stream.engine.input_names import input_name, lane_of
from billing_stream.engine.input_rows import InputRows
from billing_stream.engine.lane import Lane
from billing_stream.engine.lease import Lease
from billing_stream.engine.log import (
    CHANGELOGS_KEY,
    MARK_PREFIX,
    MEMBERS_KEY,
    RESERVED_PREFIX,
    Fenced,
    Log,
)
from billing_stream.engine.losses import Losses
from billing_stream.engine.observer import Observer
from billing_stream.engine.partition_inputs import Inputs
from billing_stream.engine.partition_processor import ChangelogRows
from billing_stream.engine.poison import PoisonLimits
from billing_stream.errors import LostChangelog, UnreadableRow
from billing_stream.kafka.topic_logs import ChangelogIds
from billing_stream.kafka.transaction_offsets import Member
from billing_stream.records.timestamps import utc_now

logger = logging.getLogger(__name__)

LOST = (
    "lost its transactions: the group gave it to another worker, or one stayed open for longer "
    "than Kafka allows, because a broker was away"
)
DRAIN_SECONDS = 3.0
CONFIRM_POLL_SECONDS = 0.02
# Of no group: a log in memory needs none.
NO_MEMBER = Member("", -1, "")


class Restoring(Struct, frozen=True):
    """A restore under way: changelog records read so far, and how many there are at most.

    `at_most`: None until it is known.
    """

    partitions: tuple[int, ...]
    records: int
    at_most: int | None
    seconds: float


class RebalancedAgain(Exception):
    """The assignment changed while we restored."""


class Lanes(dict[int, Lane[P]], Generic[P]):
    """Partition -> lane, for the partitions that are restored and owned here.

    `partitions` is how many lanes there are, on all workers; None where no topic has more.
    """

    def __init__(
        self,
        log: Log,
        new_processor: Callable[[int], P],
        *,
        positions_topic: str,
        partitions: int | None = None,
        clock: Clock = utc_now,
        commit_interval: float = COMMIT_INTERVAL_SECONDS,
        on_failure: Die = die,
        crash_hook: CrashHook = no_crash,
        poison: PoisonLimits | None = None,
        stoppable: Collection[str] | None = None,
        commands: str | None = None,
        lease: Lease | None = None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__()
        self._log = log
        self._new_processor = new_processor
        self.partitions = partitions
        self.clock = clock
        self._on_failure = on_failure
        self._crash_hook = crash_hook
        self._lease = lease
        self._observer = observer
        self.activity = 0
        # Since when these partitions are restored, and what `activity` was then.
        self._restores: tuple[tuple[int, ...], float, int] | None = None
        self._at_most: int | None = None
        self._restore_task: asyncio.Task[dict[int, Lane[P]]] | None = None
        self._open = asyncio.Event()
        self._new_inputs = partial(
            Inputs, limits=poison, stoppable=stoppable, commands=commands, lanes=partitions
        )
        self.scheduler = CommitScheduler(commit_interval)
        self._new_lane = partial(
            Lane[P],
            scheduler=self.scheduler,
            positions_topic=positions_topic,
            die=on_failure,
            lose=self._lose,
            clock=clock,
            crash_hook=crash_hook,
            observer=observer,
        )
        self._lost: list[Lane[P]] = []
        self._losses = Losses()
        self.on_loss: Callable[[], bool] = lambda: False
        # Partitions that are owned and cannot start, and why: a changelog record is unreadable.
        self.unreadable: dict[int, str] = {}
        # Inputs (topic, partition) of lanes that the group does not assign: their topics are gone.
        self.unassigned: Sequence[tuple[str, int]] = ()
        self.epoch = 0

    def input(self, topic: str, partition: int) -> tuple[Lane[P] | None, str]:
        """The lane that reads a partition of an input, if it is here, and its name there."""
        number = lane_of(partition, self.partitions)
        return self.get(number), input_name(topic, partition, number)

    @property
    def recovered(self) -> bool:
        """Whether recovery is over and the lanes commit."""
        return self._open.is_set()

    @property
    def lease_held(self) -> bool:
        """Whether no other worker can own these partitions yet."""
        return self._lease is None or self._lease.held

    @property
    def ready(self) -> bool:
        """Whether recovery is over, the lanes commit, and no other worker can own them yet."""
        return self._open.is_set() and self.lease_held

    @property
    def protocol(self) -> int:
        """The version of Kafka's transaction protocol; 0 until a partition was restored."""
        return self._log.protocol

    @property
    def changelogs(self) -> Mapping[str, str]:
        """The changelog topic of each table."""
        return self._log.changelogs

    @property
    def restoring(self) -> Restoring | None:
        """The restore under way, or None."""
        if self._restores is None:
            return None
        partitions, began, before = self._restores
        seconds = time.monotonic() - began
        return Restoring(partitions, self.activity - before, self._at_most, seconds)

    async def pause(self) -> None:
        """Finish open transactions and begin nothing new, until `resume`.

        A restore under way is broken off: another worker may own its partitions by now.
        """
        self.activity += 1
        self._open.clear()
        pauses = [lane.pause(DRAIN_SECONDS) for lane in self.values()]
        await asyncio.gather(self._break_off_restore(), *pauses)

    async def _break_off_restore(self) -> None:
        if self._restore_task is not None:
            self._restore_task.cancel()
            await asyncio.wait({self._restore_task}, timeout=DRAIN_SECONDS)

    async def drop(self, partitions: Iterable[int]) -> None:
        """Forget the lanes of partitions that another worker owns now, and those that were lost."""
        dropped = [self.pop(p) for p in list(partitions) if p in self]
        dropped += self._lost
        self._lost = []
        await asyncio.gather(*(lane.stop() for lane in dropped))

    async def confirm_membership(self) -> None:
        """Wait for a heartbeat sent from now on to succeed: the partitions are still owned here.

        None does when the group has given them away: the rebalance that follows ends this wait.
        """
        lease = self._lease
        if lease is None:
            return
        asked = lease.now()
        while lease.confirmed <= asked:  # noqa: ASYNC110 - a lease has no event
            await asyncio.sleep(CONFIRM_POLL_SECONDS)

    @property
    def lost(self) -> list[int]:
        """Partitions of lanes that were lost and are not dropped yet."""
        return [lane.partition for lane in self._lost]

    def _lose(self, partition: int, error: Fenced) -> None:
        """Give up a lane that can commit no more; it is restored if still owned here.

        No request is answered from its rows any more. The process ends with EXIT_FENCED when this
        happens again and again.
        """
        lane = self.pop(partition)
        lane.give_up()
        again = self._losses.too_many(partition)
        if again or not self.on_loss():
            self._on_failure(f"partition {partition} {LOST}", error)
            return
        self._lost.append(lane)
        logger.warning("partition %s %s", partition, LOST, extra={"partition": partition})

    async def restore(
        self, partitions: Iterable[int], member: Member = NO_MEMBER
    ) -> dict[int, Lane[P]]:
        """Join, then read: new lanes for these partitions, not started.

        `member` is the member of the group that we are now; all lanes write as that from here on.
        Who reads before it has joined would miss what the old owner committed in between. Raises
        RebalancedAgain when the lanes are paused during that. A partition with a changelog record
        that cannot be read is left out, and named in `unreadable`.
        """
        wanted = sorted(partitions)
        self._restore_task = asyncio.ensure_future(self._join_and_restore(wanted, member))
        try:
            return await self._restore_task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is None or caller.cancelling():
                raise
            raise RebalancedAgain from None
        finally:
            self._restore_task = None

    async def close(self) -> None:
        """Close the connections; there are no lanes any more."""
        await self.scheduler.use(None)

    async def _join_and_restore(self, wanted: list[int], member: Member) -> dict[int, Lane[P]]:
        self.activity += 1
        await self.scheduler.use(None)
        await self.scheduler.use(await self._log.join(member, {*self, *wanted}))
        self._crash_hook(CrashPoint.FENCED)
        self.unreadable = {}
        while True:
            try:
                return await self._read(wanted)
            except (UnreadableRow, LostChangelog) as error:
                self.unreadable[error.partition] = str(error)
                logger.critical("partition %s does not start: %s", error.partition, error)
                # The others can: one that ended the worker would end every other in turn.
                wanted = [partition for partition in wanted if partition != error.partition]

    async def _read(self, wanted: list[int]) -> dict[int, Lane[P]]:
        began = time.monotonic()
        self._at_most = None
        self._restores = (tuple(wanted), began, self.activity) if wanted else None
        try:
            restored = await self._read_rows(wanted)
            new = [p for p in wanted if not restored[p].has_members]
            async with asyncio.TaskGroup() as group:
                for partition in new:
                    group.create_task(self._end_old_release(partition))
            restored |= await self._read_rows(new)
            self._crash_hook(CrashPoint.RECOVERING)
            for one in restored.values():
                one.ids.require_all()
                for _ in one.processor.restored():
                    await asyncio.sleep(0)
            # Rows live long: the garbage collector need not walk them again and again.
            gc.freeze()
        finally:
            self._restores = None
        if wanted:
            count, seconds = sum(one.records for one in restored.values()), time.monotonic() - began
            logger.info(
                "restored partitions %s: %s records in %.2f s", _ranges(wanted), count, seconds
            )
            if self._observer is not None:
                self._observer.restored(wanted, count, seconds)
        return {p: self._lane(p, one) for p, one in restored.items()}

    async def _read_rows(self, wanted: list[int]) -> "dict[int, _Restored[P]]":
        restored = {p: _Restored(self._new_processor(p), StoredIds(p, self._log)) for p in wanted}

        def on_rows(partition: int, table: str, rows: ChangelogRows) -> None:
            self.activity += len(rows)
            restored[partition].take(table, rows)

        if wanted:
            await self._log.restore(wanted, on_rows, self._note_total)
        return restored

    def note_changelogs(self, now: ChangelogIds) -> None:
        """End the process when a changelog that it writes to is another topic by now.

        Its rows are gone; a restore, here or elsewhere, finds that and does not start.
        """
        table = created_again(self._log, now)
        if table is not None:
            self._on_failure(f"the changelog of {table} was deleted and created again", None)

    def adopt(self, lanes: Mapping[int, Lane[P]]) -> None:
        """Own restored lanes."""
        self.update(lanes)

    def next_epoch(self) -> int:
        """Begin a new epoch of deliveries; what the consumer gave before it is void."""
        self.epoch += 1
        for lane in self.values():
            lane.resume(self.epoch)
        return self.epoch

    def start(self) -> None:
        """Let every lane commit, also one that did not start before another rebalance."""
        self._crash_hook(CrashPoint.SOUGHT)
        for lane in self.values():
            lane.start()
        self._open.set()

    def _note_total(self, records: int) -> None:
        self._at_most = records

    async def _end_old_release(self, partition: int) -> None:
        while True:
            try:
                await self._log.end_old_release(partition)
            except Fenced:
                # Another worker takes it, too. If that is its owner now, this restore is cancelled.
                if self._losses.too_many(partition):
                    raise
                await self.confirm_membership()
            else:
                return

    def _lane(self, partition: int, restored: "_Restored[P]") -> Lane[P]:
        inputs = self._new_inputs(partition, rows=restored.inputs)
        lane = self._new_lane(partition, restored.processor, inputs=inputs)
        lane.inputs.pending += restored.ids.missing()
        return lane


class _Restored(Generic[P]):
    """What the changelogs of a partition have."""

    def __init__(self, processor: P, ids: StoredIds) -> None:
        self.processor = processor
        self.ids = ids
        self.inputs = InputRows()
        self.records = 0
        self.has_members = False

    def take(self, table: str, rows: ChangelogRows) -> None:
        """Take rows of a table, and the engine's own records among them."""
        self.records += len(rows)
        ours = [row for row in rows if row[0].startswith(RESERVED_PREFIX)]
        if ours:
            rows = [row for row in rows if not row[0].startswith(RESERVED_PREFIX)]
        self.processor.restore(table, rows)
        for key, value in ours:
            if key.startswith(MARK_PREFIX):
                self.processor.restore_mark(key[len(MARK_PREFIX) :], value)
            elif key == CHANGELOGS_KEY:
                self.ids.take(table, value)
            elif key == MEMBERS_KEY:
                self.has_members = True
            else:
                self.inputs.take(key, value)


def _ranges(numbers: list[int]) -> str:
    """Sorted numbers as people write them: 0-3, 7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
