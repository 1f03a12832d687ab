"""Faust's Kafka transport, changed in five ways.

A fetch comes to each agent as one message with the batches of its input: at low load, a message
per record or batch cost as much as the rest. Seeks go to the positions that the
lanes restored. Of an input nothing is fetched before its lane has compared
the position with the log, and again when a broker says that the log is another one. Waiting for
streams means pausing the lanes. And the group's own offsets are committed for display only:
nothing here depends on them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, cast

from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from billing_stream.engine.input_names import input_name, input_of, lane_of
from billing_stream.engine.lanes import Lanes, RebalancedAgain
from billing_stream.engine.lease import Lease
from billing_stream.engine.partition_inputs import Batch, Inputs
from billing_stream.faust_adapter.consumer_client import ConsumerClient
from billing_stream.kafka.open_transactions import OpenTransactions
from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.kafka.topic_logs import LogName

# Not __name__: under that name mode logs the life of every service class in this module.
logger = logging.getLogger("billing_stream.transport")

# How long a seek may have to wait for a fetch under way.
GETMANY_SECONDS_MAX = 0.25
# Until a full lane is looked at again: it has work for longer.
ROOM_SECONDS = 0.02
# To look at logs; when brokers do not answer, again after a pause.
LOOK_SECONDS_MAX = 10.0
LOOK_AGAIN_SECONDS = 1.0
# Only a display: without an answer, the next one shows it.
SHOW_SECONDS_MAX = 2.0


class EngineConsumer(driver.Consumer):
    """Delivers batches and keeps no positions of its own. Set `lanes` before the start."""

    lanes: ClassVar[Lanes[Any]]
    lease: ClassVar[Lease]
    client_options: ClassVar[Mapping[str, Any]]
    input_topics: ClassVar[frozenset[str]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fetching = asyncio.Lock()
        self._next: dict[TP, int] = {}
        # Inputs that are not fetched: stopped, or to be compared with their logs before.
        self._held: set[TP] = set()
        self._unsure: set[TP] = set()
        # Of logs that were looked at, while their lanes compare.
        self._names: dict[TP, LogName] = {}
        self._looking: asyncio.Task[None] | None = None
        self._look_at = 0.0
        self._shown: dict[TP, int | None] = {}
        self.lags: Mapping[TP, int] = {}
        self.lags_at = 0.0
        self.open_transactions = OpenTransactions()
        self.silent = SilentBrokers(self.client_options)

    def _new_consumer_thread(self) -> ConsumerClient:
        return ConsumerClient(self, loop=self.loop, beacon=self.beacon)

    @property
    def member_id(self) -> str:
        """As which the group knows this worker since the last rebalance."""
        return self._client.member_id

    async def _drain_messages(self, fetcher: Any) -> None:
        """Bring messages to the agents, until `fetcher`, who calls it, or the consumer stops."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                for message in await self._fetch():
                    # While the flow is suspended it waits here. Lanes drop what is old then.
                    await self.callback(message)
                # What is there already is fetched without a wait.
                await asyncio.sleep(0)
        except (asyncio.CancelledError, ConsumerStoppedError):
            # Of a fetcher that is cancelled beside a rebalance, Faust would make a crash.
            if not (self.app.should_stop or fetcher.should_stop):
                raise

    async def _fetch(self) -> list[ConsumerMessage]:
        """A message for each input of which something came; its value is a list of `Batch`."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        # A fetch under way during a seek would move on from where the seek went.
        async with self._fetching:
            if not self.flow_active or self.should_stop:
                return []
            epoch = self.lanes.epoch
            await self._follow_logs()
            try:
                fetched = await self._fetched_records()
            except OffsetOutOfRangeError as error:
                self._doubt(TP(*tp) for tp in error.args[0])
                return []
            except NoOffsetForPartitionError:
                # Of before the seek: the group's own offsets are not used.
                return []
            if not self.flow_active or self.should_stop or epoch != self.lanes.epoch:
                return []
            messages: dict[str, Any] = {}
            for tp, records in fetched.items():
                if tp.topic not in self.input_topics:
                    continue
                start = self._next.get(tp, records[0].offset)
                self._next[tp] = records[-1].offset + 1
                if tp.topic not in messages:
                    message: Any = self._to_message(tp, records[-1])
                    message.key, message.value = None, []
                    messages[tp.topic] = message
                lane = lane_of(tp.partition, self.lanes.partitions)
                name = input_name(tp.topic, tp.partition, lane)
                batch = Batch(tp.topic, records, start, epoch, name, lane)
                messages[tp.topic].value.append(batch)
            return list(messages.values())

    async def _fetched_records(self) -> Mapping[TP, list[Any]]:
        """Records of inputs, where the lane has room. Those of full lanes wait in the client."""
        wanted, seconds = self._get_active_partitions(), GETMANY_SECONDS_MAX
        full = {number for number, lane in self.lanes.items() if lane.is_full}
        if full:
            lanes = self.lanes.partitions
            wanted = {tp for tp in wanted if lane_of(tp.partition, lanes) not in full}
            seconds = ROOM_SECONDS
        if not wanted:
            # Of no partitions, the client would understand: of all.
            await self.sleep(seconds)
            return {}
        return await self._client.getmany(wanted, seconds)

    def _doubt(self, tps: Iterable[TP]) -> None:
        """Look at the logs of these inputs before anything more is fetched of them."""
        for tp in tps:
            if tp.topic in self.input_topics and self.lanes.input(*tp)[0] is not None:
                self._unsure.add(tp)

    def _of_inputs(self, names_of: Callable[[Inputs], set[str]]) -> set[TP]:
        lanes = self.lanes.items()
        return {TP(*input_of(name, p)) for p, lane in lanes for name in names_of(lane.inputs)}

    async def _follow_logs(self) -> None:
        """Fetch what the lanes may take; look at the logs of the rest."""
        if not self._thread_started:
            return
        held = self._of_inputs(lambda inputs: inputs.held)
        if not (held or self._held or self._unsure):
            return
        assigned = self.assignment()
        stopped = self._of_inputs(lambda inputs: inputs.changed)
        self._unsure = {tp for tp in self._unsure - stopped if tp in assigned}
        self._names = {tp: name for tp, name in self._names.items() if tp not in stopped}
        free = {tp for tp in self._held - held - self._unsure if tp in assigned}
        again = {
            tp: self._position(tp, 0)
            for tp in free & self._names.keys()
            if self.lanes.input(*tp)[0] is not None
        }
        self._unsure |= free - again.keys()
        held |= self._unsure
        try:
            if held - self._held:
                await self._client.stop_fetching(list(held - self._held))
            if again:
                names = {tp: self._names.pop(tp) for tp in again}
                await self._client.read_from(again, names)
                self._next.update(again)
        except (ConsumerNotStarted, ConsumerStoppedError):
            # What follows seeks all of them.
            return
        self._held = held
        self._look()

    def _look(self) -> None:
        looking = self._looking is not None and not self._looking.done()
        tps = [tp for tp in self._unsure if self._is_settled(tp)]
        if tps and not looking and time.monotonic() > self._look_at:
            # Not here: a broker that does not answer must not keep others from being read.
            self._looking = asyncio.create_task(self._look_at_logs(tps, self.lanes.epoch))

    async def _look_at_logs(self, tps: list[TP], epoch: int) -> None:
        lanes = self.lanes
        marks = {
            tp: lane.inputs.marks.get(name)
            for tp in tps
            for lane, name in [lanes.input(*tp)]
            if lane is not None
        }
        self._look_at = time.monotonic() + LOOK_AGAIN_SECONDS
        try:
            async with asyncio.timeout(LOOK_SECONDS_MAX):
                found, names = await self._client.logs(marks)
        except (ConsumerNotStarted, ConsumerStoppedError):
            return
        except (KafkaError, TimeoutError, NotImplementedError) as error:
            # The watchdog notices when it never succeeds, and a broker away is reported as such.
            if not isinstance(error, NodeNotReadyError | KafkaConnectionError):
                logger.warning("the logs of %s inputs cannot be looked at yet: %r", len(tps), error)
            return
        if len(found) == len(tps):
            self._look_at = 0.0
        for tp, log in found.items():
            lane, name = lanes.input(*tp)
            if epoch == lanes.epoch and lane is not None and tp in self._unsure:
                self._unsure.discard(tp)
                self._names[tp] = names[tp]
                lane.compare(name, log)

    def _is_settled(self, tp: TP) -> bool:
        """Whether nothing that was fetched of it is on its way to a transaction."""
        lane, name = self.lanes.input(*tp)
        if lane is None or not lane.is_idle:
            return False
        # What comes from beyond the position of these is passed over.
        passed_over = name in lane.stopped or lane.inputs.is_rewound(name)
        return passed_over or self._is_read_up(tp)

    async def perform_seek(self) -> None:
        """Go to where the lanes are; begins a new epoch of deliveries.

        Raises RebalancedAgain when the partitions were revoked.
        """
        async with self._fetching:
            assigned, seeks = self.assignment(), {}
            await self._client.stop_fetching(list(assigned))
            for tp in assigned:
                lane, name = self.lanes.input(*tp)
                # Changelogs are not fetched here; without a place they would be errors.
                seeks[tp] = 0
                if tp.topic in self.input_topics and lane is not None:
                    seeks[tp] = lane.positions.get(name, 0)
                    lane.inputs.found.clear()
            try:
                await self.seek_wait(seeks)
            except IllegalStateError as error:
                # The next rebalance has begun; the signal of it is still to come.
                raise RebalancedAgain from error
            self._next = {tp: at for tp, at in seeks.items() if tp.topic in self.input_topics}
            self._held, self._unsure = set(self._next), set(self._next)
            self._names.clear()
            self._shown.clear()
            self.lanes.next_epoch()

    @property
    def _thread_started(self) -> bool:
        try:
            self.assignment()
        except ConsumerNotStarted:
            return False
        return True

    @property
    def _client(self) -> ConsumerClient:
        thread: Any = self._thread
        return cast(ConsumerClient, thread)

    async def wait_empty(self) -> None:
        """Called when partitions are revoked and at a stop: the lanes come to rest."""
        await self.lanes.pause()
        await self._show_offsets()

    async def commit(self, *args: Any, **kwargs: Any) -> bool:
        """Show the group the positions; those that count are in the transactions."""
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
            async with asyncio.timeout(SHOW_SECONDS_MAX):
                await self._client.commit_display_offsets(changed)
        except (KafkaError, ConsumerStoppedError, TimeoutError) as error:
            logger.debug("offsets for display not committed: %r", error)

    async def lagging_inputs(self) -> dict[tuple[str, int], int]:
        """The inputs in which records wait that can be read, and where their reader stands."""
        if not self._thread_started:
            return {}
        inputs = [tp for tp in self.assignment() if tp.topic in self.input_topics]
        every = {TP(topic, p) for topic in self.input_topics for p in self.lanes}
        self.lanes.unassigned = sorted((every - set(inputs)) if self.lanes.ready else ())
        if self.lanes.changelogs:
            ids = await self._client.changelog_ids(self.lanes.changelogs)
            self.lanes.note_changelogs(ids)
        positions = await self._client.positions(inputs)
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

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's own watch counts acks per record; readiness watches the lanes instead."""


def new_transport(
    app: Any,
    lanes: Lanes[Any],
    lease: Lease,
    options: Mapping[str, Any],
    input_topics: frozenset[str],
) -> driver.Transport:
    """A transport for this app; its consumer works with these lanes."""

    class BoundConsumer(EngineConsumer):
        pass

    BoundConsumer.lanes = lanes
    BoundConsumer.lease = lease
    BoundConsumer.client_options = options
    BoundConsumer.input_topics = input_topics

    class BoundTransport(driver.Transport):
        Consumer: ClassVar[type[EngineConsumer]] = BoundConsumer

    return BoundTransport(app.conf.broker_consumer, app)
