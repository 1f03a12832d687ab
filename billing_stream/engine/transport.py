"""Faust's Kafka transport, changed in four ways.

Records are delivered in batches, one message per fetched batch and partition. Seeks go to
the positions that the lanes restored. Waiting for streams means pausing the lanes. And the
group's own offsets are committed for display only: nothing here depends on them.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, ClassVar, cast

import aiokafka
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.utils.futures import notify

from billing_stream.engine.batch import Batch
from billing_stream.engine.fatal import die
from billing_stream.engine.lane import Lane
from billing_stream.engine.lanes import Lanes
from billing_stream.engine.lease import Lease
from billing_stream.group_membership import OnLost, watch_membership

# Not __name__: under that name mode logs the life of every service class in this module.
logger = logging.getLogger("billing_stream.transport")

FETCH_WAIT_MS = 50
# How long a seek may have to wait for a fetch under way.
GETMANY_SECONDS_MAX = 0.25


LOST = "the membership in the consumer group has ended"


class PositionLost(Exception):
    """An input no longer has the records to go on from: it was cut short, or made anew."""


class LeasedConsumer(aiokafka.AIOKafkaConsumer):
    """Renews the lease with each heartbeat that is answered; without a group the process ends."""

    def __init__(
        self, *args: Any, lease: Lease, on_lost: OnLost | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lease = lease
        self._on_lost = on_lost or partial(die, LOST)

    async def start(self) -> None:
        """Connect, and have an eye on the heartbeats from then on."""
        await super().start()
        watch_membership(self, self._on_lost)
        coordinator, lease = self._coordinator, self._lease
        beat, rejoin = coordinator._do_heartbeat, coordinator._do_rejoin_group

        async def do_heartbeat() -> bool:
            sent = lease.now()
            answered: bool = await beat()
            if answered:
                lease.renew(sent)
            return answered

        async def do_rejoin_group(subscription: Any) -> bool:
            joined: bool = await rejoin(subscription)
            if joined:
                # Not only at the next turn: until then nothing could be answered.
                await do_heartbeat()
            return joined

        coordinator._do_heartbeat = do_heartbeat
        coordinator._do_rejoin_group = do_rejoin_group


class EngineConsumerThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread; its client reads what was committed, and does not wait long."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        self._assignor = self.app.assignor
        consumer: Any = self.consumer
        options: Mapping[str, Any] = consumer.client_options
        return LeasedConsumer(
            **options,
            lease=consumer.lease,
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            # Used before the first seek only: `perform_seek` checks that its target exists.
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
        )

    async def ranges(self, tps: list[TP]) -> dict[TP, tuple[int, int]]:
        """The first and the end offset of each partition."""
        found: dict[TP, tuple[int, int]] = await self.call_thread(self._ranges, tps)
        return found

    async def _ranges(self, tps: list[TP]) -> dict[TP, tuple[int, int]]:
        consumer = self._ensure_consumer()
        asked = [TopicPartition(topic, partition) for topic, partition in tps]
        begins = await consumer.beginning_offsets(asked)
        ends = await consumer.end_offsets(asked)
        return {TP(*tp): (begins[tp], ends[tp]) for tp in asked}

    async def places(self, tps: list[TP]) -> dict[TP, tuple[int, int]]:
        """Where the client stands in each, and where its records end."""
        found: dict[TP, tuple[int, int]] = await self.call_thread(self._find_places, tps)
        return found

    async def _find_places(self, tps: list[TP]) -> dict[TP, tuple[int, int]]:
        consumer = self._ensure_consumer()
        asked = [TopicPartition(*tp) for tp in tps]
        asked = [tp for tp in asked if tp in consumer.assignment()]
        ends = await consumer.end_offsets(asked)
        positions = {tp: await consumer.position(tp) for tp in asked}
        return {TP(*tp): (positions[tp], ends[tp]) for tp in asked}

    async def hold(self, tps: list[TP]) -> None:
        """Do not fetch these partitions: Faust's own pause fetches and keeps."""
        await self.call_thread(self._hold, tps)

    async def _hold(self, tps: list[TP]) -> None:
        consumer = self._ensure_consumer()
        consumer.pause(*{TopicPartition(*tp) for tp in tps} & consumer.assignment())

    async def show_offsets(self, offsets: Mapping[TP, int | None]) -> None:
        """Commit offsets to the group, for lag displays; None: wherever the client is."""
        await self.call_thread(self._show_offsets, offsets)

    async def _show_offsets(self, offsets: Mapping[TP, int | None]) -> None:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        shown = {}
        for (topic, partition), offset in offsets.items():
            tp = TopicPartition(topic, partition)
            if tp not in assigned:
                continue
            at = await consumer.position(tp) if offset is None else offset
            shown[tp] = OffsetAndMetadata(at, "")
        if shown:
            await consumer.commit(shown)


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
        self._shown: dict[TP, int | None] = {}
        self.lags: Mapping[TP, int] = {}
        self.lags_at = 0.0

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
            message.value = Batch(tp.topic, batch, start, epoch)
            yield tp, message

    async def perform_seek(self) -> None:
        """Go to where the lanes are; begins a new epoch of deliveries."""
        async with self._fetching:
            seeks = {}
            for tp in self.assignment():
                lane = self.lanes.get(tp.partition)
                if tp.topic in self.input_topics and lane is not None:
                    seeks[tp] = lane.positions.get(tp.topic, 0)
            await self._engine_thread.hold(
                [tp for tp in self.assignment() if tp.topic not in self.input_topics]
            )
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
        await self.seek_wait(targets)

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
            lane = self.lanes.get(tp.partition)
            if tp.topic not in self.input_topics or lane is None:
                continue
            reached = lane.positions.get(tp.topic, 0)
            # The client stands behind the last control record too.
            caught_up = self._is_read_up(tp, lane)
            offsets[tp] = None if caught_up and self.lanes.ready else reached
        changed = {tp: o for tp, o in offsets.items() if o is None or self._shown.get(tp) != o}
        if not changed:
            return
        self._shown.update(changed)
        try:
            await self._engine_thread.show_offsets(changed)
        except (KafkaError, asyncio.TimeoutError) as error:
            logger.debug("offsets for display not committed: %r", error)

    async def behind(self) -> dict[tuple[str, int], int]:
        """The inputs in which records wait, and where their reader stands."""
        if not self._thread_started:
            return {}
        inputs = [tp for tp in self.assignment() if tp.topic in self.input_topics]
        places = await self._engine_thread.places(inputs)
        self.lags = {tp: self._lag(tp, at, end) for tp, (at, end) in places.items()}
        self.lags_at = time.time()
        return {(tp.topic, tp.partition): at for tp, (at, end) in places.items() if at < end}

    def _lag(self, tp: TP, at: int, end: int) -> int:
        """Offsets before the end that no transaction has taken, markers among them or not."""
        lane = self.lanes.get(tp.partition)
        # Nothing of it waits here, so what the client has passed by were markers.
        if lane is None or self._is_read_up(tp, lane):
            return max(0, end - at)
        return max(0, end - lane.positions.get(tp.topic, at))

    def _is_read_up(self, tp: TP, lane: Lane) -> bool:
        """Whether all that was fetched of it is committed, and the lane is idle."""
        reached = lane.positions.get(tp.topic, 0)
        return lane.is_idle and self._next.get(tp, reached) <= reached

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
