"""Faust's recovery, replaced: join, restore, seek, start.

Faust's own delivery of changelogs stays paused permanently. Each rebalance that Faust
reports leads to one pass of `_recover`; a further one in between begins it again. So does the
loss of a partition that the group has not given away: it is restored again.
"""

import asyncio
import logging
from typing import Any

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP
from mode import Service

from billing_stream.engine.fatal import die
from billing_stream.engine.input_names import lane_of
from billing_stream.engine.lanes import Lanes, RebalancedAgain
from billing_stream.kafka.transaction_offsets import Member

# Not __name__: under that name mode logs the life of every service class in this module.
logger = logging.getLogger("billing_stream.recovery")


class LaneRecovery(Recovery):
    """Brings the lanes in line with the assignment."""

    lanes: Lanes[Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seen = -1, ""
        self.lanes.on_loss = self._on_loss

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Note the assignment, then let Faust signal the start of recovery."""
        actives = self.app.assignor.assigned_actives()
        owned = {lane_of(tp.partition, self.lanes.partitions) for tp in actives}
        consumer: Any = self.app.consumer
        member_id = consumer.member_id
        stayed = self._seen == (generation_id - 1, member_id)
        if self.lanes and not stayed:
            # We were not there in between: another worker may have owned what we hold.
            owned = set()
        self._seen = generation_id, member_id
        await self.lanes.drop(set(self.lanes) - owned)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    def _on_loss(self) -> bool:
        """Restore lost partitions again; whether a restore follows."""
        if self.should_stop:
            return False
        # A rebalance under way ends in a pass of its own.
        if not self.app.rebalancing:
            self.signal_recovery_start.set()
        return True

    async def on_stop(self) -> None:
        """The worker stops: let the lanes go, and their connections with them."""
        await super().on_stop()
        await self.lanes.drop(set(self.lanes))
        await self.lanes.close()

    @Service.task
    async def _restart_recovery(self) -> None:
        try:
            while not self.should_stop:
                if await self.wait_for_stopped(self.signal_recovery_start.wait()):
                    return
                self.signal_recovery_start.clear()
                try:
                    if self.lanes.lost and not self.app.rebalancing:
                        await self._hold_all()
                    await self._recover(self._generation_id)
                except RebalancedAgain:
                    logger.info("the assignment changed again, or a partition was lost")
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # Ended silently, recovery would leave a worker that lives and does nothing.
            if not self.should_stop:
                die("recovery failed", error)

    async def _hold_all(self) -> None:
        """Come to rest as for a revocation, to restore a partition that was lost.

        Not before the group has confirmed the ownership: to fence it would only end
        its new owner. Raises RebalancedAgain when the group begins to move partitions instead.
        """
        await self._unless_rebalanced(self.lanes.confirm_membership())
        self._require_no_rebalance()
        consumer, app = self.app.consumer, self.app
        consumer.stop_flow()
        app.flow_control.suspend()
        consumer.pause_partitions(consumer.assignment())
        app.flow_control.clear()
        await self._unless_rebalanced(self.lanes.pause())
        self._require_no_rebalance()

    def _require_no_rebalance(self) -> None:
        if self.app.rebalancing:
            raise RebalancedAgain

    async def _recover(self, generation: int) -> None:
        consumer: Any = self.app.consumer
        self._set_recovery_started()
        self.completed.clear()
        # 1. Let go of what is not ours. The lanes are paused since the revocation.
        owned = {tp.partition for tp in self.active_tps}
        await self.lanes.drop(set(self.lanes) - owned)
        # 2. Join, and restore what is new; a kept partition is not read again.
        member = Member(self.app.conf.id, generation, consumer.member_id)
        restoring = self.lanes.restore(owned - set(self.lanes), member)
        restored = await self._unless_rebalanced(restoring)
        if self.app.consumer_generation_id != generation:
            await asyncio.gather(*(lane.stop() for lane in restored.values()))
            raise RebalancedAgain
        self.lanes.adopt(restored)
        await self.app.on_rebalance_complete.send()
        # 3. Seek to the positions that came with the state, while nothing flows: resumed
        #    earlier, the consumer would deliver from elsewhere.
        await self._unless_rebalanced(consumer.perform_seek())
        # 4. Start.
        self.lanes.start()
        self._set_recovery_ended()
        self.completed.set()
        self.app.flow_control.resume()
        consumer.resume_partitions(
            {tp for tp in consumer.assignment() if not self._is_changelog_tp(tp)}
        )
        consumer.resume_flow()
        app: Any = self.app
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        if self.app.rebalancing:
            self.app.on_rebalance_end()
        if self.lanes.lost:
            self.signal_recovery_start.set()
        logger.info("ready with %s partitions, generation %s", len(self.lanes), generation)

    async def _unless_rebalanced(self, work: Any) -> Any:
        """The result of `work`; RebalancedAgain, and `work` cancelled, on a new assignment."""
        task = asyncio.ensure_future(work)
        again = asyncio.ensure_future(self.signal_recovery_start.wait())
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({task, again, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled() and task.exception() is None:
                await self._discard(task.result())
            raise RebalancedAgain
        finally:
            again.cancel()
            stopped.cancel()

    async def _discard(self, result: Any) -> None:
        """Restored after all, but too late: close what was opened."""
        if isinstance(result, dict):
            await asyncio.gather(*(lane.stop() for lane in result.values()))


def new_table_manager(lanes: Lanes[Any]) -> type[TableManager]:
    """The `TableManager` setting of an app with its tables in these lanes."""

    class BoundRecovery(LaneRecovery):
        pass

    BoundRecovery.lanes = lanes

    class BoundTableManager(TableManager):
        async def on_start(self) -> None:
            # Not Faust's, which waits a second for tables: ours are all there since the build.
            await self._update_channels()
            await self.recovery.start()

        @property
        def recovery(self) -> Recovery:
            if self._recovery is None:
                self._recovery = BoundRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
            return self._recovery

    return BoundTableManager
