"""Faust's Kafka transport, changed in four ways.

Records are delivered in batches, one message per fetched batch and partition. Seeks go to
the positions that the lanes restored. Waiting for streams means pausing the lanes. And the
group's own offsets are committed for display only: nothing here depends on them.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, cast

from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.utils.futures import notify

from billing_stream.engine.batch import Batch
from billing_stream.engine.fatal import die
from billing_stream.engine.input_names import input_of
from billing_stream.engine.lanes import Lanes, RebalancedAgain
from billing_stream.engine.lease import Lease
from billing_stream.faust_adapter.consumer_thread import EngineConsumerThread
from billing_stream.kafka.open_transactions import OpenTransactions

# Not __name__: under that name mode logs the life of every service class in this module.
logger = logging.getLogger("billing_stream.transport")

# How long a seek may have to wait for a fetch under way.
GETMANY_SECONDS_MAX = 0.25


class PositionLost(Exception):
    """An input no longer has the records to go on from: it was cut short, or made anew."""


class EngineConsumer(driver.Consumer):
    """Delivers batches and keeps no positions of its own. Set `lanes` before the start."""

    lanes: ClassVar[Lanes]
    lease: ClassVar[Lease]
    client_options: ClassVar[Mapping[str, Any]]
    input_topics: ClassVar[frozenset[str]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fetching = asyncio.Lock()
        self._next: dict[TP, int] = {}
        # Stopped inputs, which are not fetched.
        self._held: set[TP] = set()
        self._shown: dict[TP, int | None] = {}
        self.lags: Mapping[TP, int] = {}
        self.lags_at = 0.0
        self.open_transactions = OpenTransactions()

    def _new_consumer_thread(self) -> EngineConsumerThread:
        return EngineConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield one message per partition; its value is the whole `Batch`."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        # A fetch under way during a seek would move on from where the seek went.
        async with self._fetching:
            if not self.flow_active or self.should_stop:
                return
            epoch = self.lanes.epoch
            await self._follow_stops()
            records, active = await self._wait_next_records(min(timeout, GETMANY_SECONDS_MAX))
        for tp, batch in (records or {}).items():
            if not self.flow_active or self.should_stop or epoch != self.lanes.epoch:
                return
            if tp.topic not in self.input_topics or (active is not None and tp not in active):
                continue
            start = self._next.get(tp, batch[0].offset)
            self._next[tp] = batch[-1].offset + 1
            message: Any = self._to_message(tp, batch[-1])
            message.key = None
            name = self.lanes.input(*tp)[1]
            message.value = Batch(tp.topic, batch, start, epoch, name=name)
            yield tp, message

    async def _follow_stops(self) -> None:
        """Fetch no stopped input; one that is not stopped any more, from its position again."""
        held = {TP(*input_of(n, p)) for p, lane in self.lanes.items() for n in lane.inputs.held}
        if held == self._held:
            return
        try:
            assigned = self.assignment()
            again = {
                tp: self._position(tp, 0)
                for tp in self._held - held
                if self.lanes.input(*tp)[0] is not None and tp in assigned
            }
            await self._engine_thread.stop_fetching(list(held))
            if again:
                await self._seek_within_range(again)
                self._next.update(again)
                self._read_offset.update(dict.fromkeys(again))
                await self._engine_thread.fetch_again(list(again))
        except (RebalancedAgain, ConsumerNotStarted, ConsumerStoppedError):
            # What follows seeks all of them.
            return
        except (KafkaError, TimeoutError) as error:
            # Tried again at the next fetch; the watchdog notices when it never succeeds.
            logger.warning("inputs cannot be read from their positions yet: %r", error)
            return
        except PositionLost as error:
            die("an input cannot be read again", error)
        self._held = held

    async def perform_seek(self) -> None:
        """Go to where the lanes are; begins a new epoch of deliveries.

        Raises PositionLost, and RebalancedAgain when the partitions were revoked.
        """
        async with self._fetching:
            seeks = {}
            for tp in self.assignment():
                if tp.topic in self.input_topics and self.lanes.input(*tp)[0] is not None:
                    seeks[tp] = self._position(tp, 0)
            await self._engine_thread.stop_fetching(
                [tp for tp in self.assignment() if tp.topic not in self.input_topics]
            )
            if self._held:
                await self._engine_thread.fetch_again(list(self._held))
                self._held.clear()
            if seeks:
                await self._seek_within_range(seeks)
            self._next.clear()
            self._next.update(seeks)
            self._shown.clear()
            for tp in self.assignment():
                self._read_offset[tp] = None
            self.lanes.next_epoch()

    async def _seek_within_range(self, seeks: dict[TP, int]) -> None:
        targets = dict(seeks)
        for tp, (begin, end) in (await self._engine_thread.ranges(list(seeks))).items():
            # Never read: a topic begins at its first record, which need not be 0.
            targets[tp] = seeks[tp] or begin
            if not begin <= targets[tp] <= end:
                raise PositionLost(
                    f"{tp.topic}[{tp.partition}] holds offsets {begin} to {end}, "
                    f"the next to read would be {targets[tp]}"
                )
        try:
            await self.seek_wait(targets)
        except IllegalStateError as error:
            # The next rebalance has begun; the signal of it is still to come.
            raise RebalancedAgain from error

    @property
    def _thread_started(self) -> bool:
        try:
            self.assignment()
        except ConsumerNotStarted:
            return False
        return True

    @property
    def _engine_thread(self) -> EngineConsumerThread:
        thread: Any = self._thread
        return cast(EngineConsumerThread, thread)

    def ack(self, message: Any) -> bool:
        """Be done with a message.

        Faust would keep its offset until a commit, which is not Faust's here: for ever.
        """
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        return True

    async def wait_empty(self) -> None:
        """Called when partitions are revoked and at a stop: the lanes come to rest."""
        await self.lanes.pause()
        await self._show_offsets()

    async def commit(self, *args: Any, **kwargs: Any) -> bool:
        """Show the group how far we are; positions proper stand in the transactions."""
        await self._show_offsets()
        return True

    async def _show_offsets(self) -> None:
        if not self._thread_started:
            return
        offsets: dict[TP, int | None] = {}
        for tp in self.assignment():
            if tp.topic not in self.input_topics or self.lanes.input(*tp)[0] is None:
                continue
            # The client stands behind the last control record too.
            caught_up = self._is_read_up(tp)
            offsets[tp] = None if caught_up and self.lanes.ready else self._position(tp, 0)
        changed = {tp: o for tp, o in offsets.items() if o is None or self._shown.get(tp) != o}
        if not changed:
            return
        self._shown.update(changed)
        try:
            await self._engine_thread.commit_display_offsets(changed)
        except (KafkaError, ConsumerStoppedError, TimeoutError) as error:
            logger.debug("offsets for display not committed: %r", error)

    async def lagging_inputs(self) -> dict[tuple[str, int], int]:
        """The inputs in which records wait that can be read, and where their reader stands."""
        if not self._thread_started:
            return {}
        inputs = [tp for tp in self.assignment() if tp.topic in self.input_topics]
        positions = await self._engine_thread.positions(inputs)
        # To the log's end: what an open transaction holds back waits, too.
        self.lags = {tp: self._lag(tp, one.at, one.end) for tp, one in positions.items()}
        self.lags_at = time.time()
        self.open_transactions.note({tp: (one.stable, one.end) for tp, one in positions.items()})
        return {tp: one.at for tp, one in positions.items() if one.at < one.stable}

    def _lag(self, tp: TP, at: int, end: int) -> int:
        """Offsets before the end that no transaction has taken, markers among them or not."""
        # Nothing of it waits here, so what the client has passed by were markers.
        return max(0, end - (at if self._is_read_up(tp) else self._position(tp, at)))

    def _is_read_up(self, tp: TP) -> bool:
        """Whether all that was fetched of it is committed, and its lane is idle or not here."""
        lane, reached = self.lanes.input(*tp)[0], self._position(tp, 0)
        return lane is None or (lane.is_idle and self._next.get(tp, reached) <= reached)

    def _position(self, tp: TP, otherwise: int) -> int:
        """The offset of the record to be processed next, where the lane is here and knows it."""
        lane, name = self.lanes.input(*tp)
        return otherwise if lane is None else lane.positions.get(name, otherwise)

    async def _add_gap(self, *args: Any) -> None:
        """Gaps between batches are control records, or the lane finds them."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's own watch counts acks per record; readiness watches the lanes instead."""


def new_transport(
    app: Any,
    lanes: Lanes,
    lease: Lease,
    options: Mapping[str, Any],
    input_topics: frozenset[str],
) -> driver.Transport:
    """A transport for this app, whose consumer works with these lanes."""

    class BoundConsumer(EngineConsumer):
        pass

    BoundConsumer.lanes = lanes
    BoundConsumer.lease = lease
    BoundConsumer.client_options = options
    BoundConsumer.input_topics = input_topics

    class BoundTransport(driver.Transport):
        Consumer: ClassVar[type[EngineConsumer]] = BoundConsumer

    return BoundTransport(app.conf.broker_consumer, app)
