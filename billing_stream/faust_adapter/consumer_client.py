"""The client of the consumer: it lives on the lanes' loop, where Faust has a thread for it.

Between threads, each fetch would wait for two loops to wake and for the interpreter's lock.

A stop can meet a rebalance. Then the client waits for a callback of Faust's, which can wait for a
call to the client. With Faust and aiokafka alone such a stop hangs. Here a call that is not
finished before the stop fails at once, and no step of the stop can keep it from ending.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial, wraps
from typing import Any, NamedTuple, TypeVar

import aiokafka
from aiokafka.errors import ConsumerStoppedError, KafkaError
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import maybe_async

from billing_stream.engine.fatal import die
from billing_stream.engine.lease import Lease
from billing_stream.faust_adapter.fetch_times import seconds_to_fetch
from billing_stream.faust_adapter.unfinished import finish
from billing_stream.kafka.consumers import KafkaConsumer
from billing_stream.kafka.group_membership import OnLost, watch_membership
from billing_stream.kafka.named_fetches import NamedFetches
from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.kafka.topic_logs import (
    ChangelogIds,
    FoundLog,
    LogMark,
    LogName,
    changelog_ids,
    look_at_logs,
)

# Not __name__: under that name mode logs the life of every service class in this module.
logger = logging.getLogger("billing_stream.consumer")

FETCH_WAIT_MS = 50
# Within so long a topic that was deleted and created again, or got more partitions, is read.
METADATA_MS_MAX = 10_000
R = TypeVar("R")
LOST = "the membership in the consumer group has ended"
# Of each of two steps. Leaving is a courtesy: the other members notice after the session.
STOP_SECONDS_MAX = 2.0


class Position(NamedTuple):
    """Where a client stands: all before `stable` is committed or aborted, `end` is the log's."""

    at: int
    stable: int
    end: int


class LeasedConsumer(KafkaConsumer):
    """Renews the lease with each answered heartbeat; can leave its group at any moment.

    `on_lost` gets the error that ends the membership; without it, the process ends. Brokers in
    `silent` are avoided.
    """

    def __init__(
        self,
        *args: Any,
        lease: Lease,
        on_lost: OnLost | None = None,
        silent: SilentBrokers | None = None,
        seconds_to_use: Callable[[], float] = lambda: 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if silent is not None:
            silent.avoided_by(self._client)
        self._fetches = NamedFetches(self._client, seconds_to_use)
        self._lease = lease
        self._on_lost = on_lost or partial(die, LOST)

    async def start(self) -> None:
        """Connect; from then on, observe heartbeats and joins."""
        await super().start()
        self._fetches.followed_by(self._fetcher)
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
            # It waits for the other members, up to the rebalance timeout. A stop must not.
            joining = asyncio.ensure_future(rejoin(subscription))
            try:
                await asyncio.wait(
                    {joining, coordinator._closing}, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                if not joining.done():
                    joining.cancel()
            if coordinator._closing.done():
                await asyncio.wait({joining})
                return False
            joined: bool = joining.result()
            if joined:
                # Not only at the next turn: until then nothing could be answered.
                await do_heartbeat()
            return joined

        async def maybe_leave_group() -> None:
            await _leave_group(coordinator)

        coordinator._do_heartbeat = do_heartbeat
        coordinator._do_rejoin_group = do_rejoin_group
        coordinator._maybe_leave_group = maybe_leave_group

    def read_from(self, tp: TopicPartition, offset: int, name: LogName) -> None:
        """Fetch an assigned partition from this offset of this log, and of no other."""
        self._fetches.names[tp] = name
        self.seek(tp, offset)
        self.resume(tp)


async def _leave_group(coordinator: Any) -> None:
    """Have the broker remove this member, also while it joins. Static members stay.

    The request takes another connection than joins do: on theirs, the broker answers the cancelled
    join first.
    """
    node, member = coordinator.coordinator_id, coordinator.member_id
    if node is not None and member and coordinator._group_instance_id is None:
        request = LeaveGroupRequest(coordinator.group_id, member)
        try:
            await coordinator._client.send(node, request)
        except KafkaError as error:
            logger.info("could not leave the group, its session will expire: %r", error)
    coordinator.reset_generation()


def _until_stop(method: Callable[..., Awaitable[R]]) -> Callable[..., Coroutine[Any, Any, R]]:
    """A method of the client; who awaits it at a stop gets ConsumerStoppedError."""

    @wraps(method)
    async def call(self: "ConsumerClient", *args: Any) -> R:
        result: R = await self.call_thread(method, self, *args)
        return result

    return call


class _Task:
    """What mode has a thread for: runs the service."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the service is up later."""
        self._task = asyncio.create_task(self._service._serve(), name="consumer-client")
        # Marks its error as retrieved: the start of the service raises it, or its crash tells it.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def is_alive(self) -> bool:
        """Whether it began, and has not ended."""
        return self._task is not None and not self._task.done()

    def stop(self) -> None:
        """Nothing is left to wait for: the service has reported its shutdown."""


class ConsumerClient(driver.AIOKafkaConsumerThread):
    """The consumer's client; it reads what was committed, and does not wait long.

    Faust calls it a thread; it runs in the loop that it is given.
    """

    Worker: Any = _Task

    def __init__(self, consumer: Any, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, **kwargs)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._calls: set[asyncio.Future[Any]] = set()
        self._takes_calls = True

    @property
    def member_id(self) -> str:
        """As which the group knows this client."""
        return str(self._ensure_consumer()._coordinator.member_id)

    async def call_thread(
        self, fun: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
    ) -> Any:
        """Call `fun` of the client. Raises ConsumerStoppedError when the client stops first.

        Not in Faust's queue, which runs two at a time and to their ends: two calls that wait for
        a broker, or for a position after a rebalance, would keep out the seek that ends the wait.
        """
        if not self._takes_calls:
            raise ConsumerStoppedError

        async def run() -> Any:
            return await maybe_async(fun(*args, **kwargs))

        call = asyncio.create_task(run())
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            return await call
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is None or caller.cancelling():
                raise
            # The stop cancelled the call, and not the caller.
            raise ConsumerStoppedError from None

    def _fail_calls(self) -> None:
        self._takes_calls = False
        for call in list(self._calls):
            call.cancel()

    async def getmany(
        self, active_partitions: set[TP] | None, timeout: float
    ) -> Mapping[TP, list[Any]]:
        """The records that were fetched of these partitions, at the latest after `timeout`.

        Not as a call: this is how all records come in, and a task each time costs.
        """
        if not self._takes_calls:
            raise ConsumerStoppedError
        consumer: Any = self._ensure_consumer()
        limit = consumer._max_poll_records
        return await self._fetch_records(consumer, active_partitions or set(), timeout, limit)

    async def stop(self) -> None:
        """Stop, also when it was started and does not run yet."""
        while self._is_starting:  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0)
        await super().stop()

    @property
    def _is_starting(self) -> bool:
        """Whether it shall run, but mode would take it for one that was never started."""
        return self._thread is not None and self._thread.is_alive() and not self.started

    async def _gather_remaining_tasks(self) -> None:
        """Not as mode: the tasks that remain in this loop are not the client's."""

    async def on_thread_stop(self) -> None:
        """Leave the group and disconnect, in STOP_SECONDS_MAX for each. Raises nothing.

        If it raised, mode would not notice the end, and wait for a minute.
        """
        self._fail_calls()
        if self._consumer is not None:
            await finish(self._consumer.stop(), STOP_SECONDS_MAX, "leaving the group")

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        self._assignor = self.app.assignor
        consumer: Any = self.consumer
        options: Mapping[str, Any] = consumer.client_options
        return LeasedConsumer(
            **options,
            lease=consumer.lease,
            silent=consumer.silent,
            seconds_to_use=partial(seconds_to_fetch, consumer.lanes),
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            metadata_max_age_ms=METADATA_MS_MAX,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
        )

    @_until_stop
    async def logs(
        self, marks: Mapping[TP, LogMark | None]
    ) -> tuple[dict[TP, FoundLog], dict[TP, LogName]]:
        """As `look_at_logs`, with the name of each log that was found."""
        asked = {TopicPartition(*tp): mark for tp, mark in marks.items()}
        found, names = await look_at_logs(self._ensure_consumer(), asked)
        logs = {TP(*tp): log for tp, log in found.items()}
        return logs, {TP(*tp): names.logs[tp] for tp in found}

    @_until_stop
    async def changelog_ids(self, changelogs: Mapping[str, str]) -> ChangelogIds:
        """As the function of this name."""
        return await changelog_ids(self._ensure_consumer()._client, changelogs)

    @_until_stop
    async def read_from(self, seeks: Mapping[TP, int], names: Mapping[TP, LogName]) -> None:
        """Fetch these partitions from these offsets, of these logs and no others."""
        consumer: Any = self._ensure_consumer()
        assigned = consumer.assignment()
        for tp, offset in seeks.items():
            if TopicPartition(*tp) in assigned:
                consumer.read_from(TopicPartition(*tp), offset, names[tp])

    @_until_stop
    async def positions(self, tps: list[TP]) -> dict[TP, Position]:
        """The client's position in each, and the end of its records."""
        consumer = self._ensure_consumer()
        asked = [TopicPartition(*tp) for tp in tps]
        asked = [tp for tp in asked if tp in consumer.assignment()]
        stable = await consumer.end_offsets(asked)
        found = {}
        for tp in asked:
            # As of the last fetch; a later stable end is beyond it.
            end = max(stable[tp], consumer.highwater(tp) or 0)
            found[TP(*tp)] = Position(await consumer.position(tp), stable[tp], end)
        return found

    @_until_stop
    async def stop_fetching(self, tps: list[TP]) -> None:
        """Do not fetch these partitions: Faust's own pause fetches and keeps."""
        consumer = self._ensure_consumer()
        consumer.pause(*{TopicPartition(*tp) for tp in tps} & consumer.assignment())

    @_until_stop
    async def commit_display_offsets(self, offsets: Mapping[TP, int | None]) -> None:
        """Commit offsets to the group, for lag displays; None: wherever the client is."""
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
