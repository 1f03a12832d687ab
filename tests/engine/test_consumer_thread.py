"""The consumer's thread ends, whatever is under way in it and around it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ConsumerStoppedError
from mode.threads import WorkerThread

from billing_stream.engine.lease import Lease
from billing_stream.faust_adapter.consumer_thread import EngineConsumerThread, LeasedConsumer

SOON = 20.0
"""A stop that hangs takes a minute, or for ever."""

Leave = Callable[[], Awaitable[None]]


class Client:
    """In the reference of the Kafka client; `leave` is its stop."""

    def __init__(self, leave: Leave) -> None:
        self.stop = leave

    async def start(self) -> None:
        pass


class Thread(EngineConsumerThread):
    """With a client that needs no broker."""

    leave: Leave

    def __post_init__(self) -> None:
        super().__post_init__()

    def _create_worker_consumer(self, transport: Any) -> Any:
        return Client(self.leave)


async def nothing() -> None:
    pass


def new_thread(leave: Leave = nothing) -> Thread:
    conf = SimpleNamespace(
        producer_partitioner=None,
        stream_processing_timeout=300.0,
        broker_commit_livelock_soft_timeout=300.0,
    )
    app = SimpleNamespace(conf=conf, client_only=False)
    transport = SimpleNamespace(app=app)
    consumer: Any = SimpleNamespace(transport=transport, RebalanceListener=lambda thread: None)
    consumer.app = app
    thread = Thread(consumer, loop=asyncio.get_running_loop())
    thread.leave = leave
    return thread


async def ends(thread: Thread) -> bool:
    """Stop it; whether the thread is gone."""
    await asyncio.wait_for(thread.stop(), SOON)
    return thread._thread is not None and not thread._thread.is_alive()


async def test_a_call_that_a_stop_overtakes_fails_for_its_caller() -> None:
    thread, begun = new_thread(), asyncio.Event()
    here = asyncio.get_running_loop()
    await thread.start()

    async def never() -> None:
        here.call_soon_threadsafe(begun.set)
        await asyncio.Event().wait()

    call = asyncio.create_task(thread.call_thread(never))
    await begun.wait()

    assert await ends(thread)
    with pytest.raises(ConsumerStoppedError):
        await call


async def test_a_call_after_the_stop_fails_at_once() -> None:
    thread = new_thread()
    await thread.start()
    assert await ends(thread)

    with pytest.raises(ConsumerStoppedError):
        await asyncio.wait_for(thread.call_thread(nothing), SOON)


async def test_a_cancelled_caller_is_cancelled_and_not_told_of_a_stop() -> None:
    thread = new_thread()
    await thread.start()
    call = asyncio.create_task(thread.call_thread(asyncio.Event().wait))
    await asyncio.sleep(0)
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert await ends(thread)


async def test_calls_that_wait_do_not_keep_out_the_one_that_ends_their_wait() -> None:
    thread = new_thread()
    await thread.start()
    sought = asyncio.Event()

    async def position() -> str:
        await sought.wait()
        return "known"

    async def seek() -> None:
        sought.set()

    waiting = [asyncio.create_task(thread.call_thread(position)) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.wait_for(thread.call_thread(seek), SOON)

    assert await asyncio.gather(*waiting) == ["known"] * 5
    assert await ends(thread)


async def test_a_call_ends_in_the_thread_when_its_caller_gives_up() -> None:
    thread, ended = new_thread(), threading.Event()
    await thread.start()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(thread.call_thread(never), 0.1)

    assert await asyncio.to_thread(ended.wait, SOON)
    assert await ends(thread)


@pytest.mark.parametrize("late", [False, True], ids=["under way", "after the last call"])
async def test_a_stop_that_meets_a_revocation_ends_the_thread(late: bool) -> None:
    here = asyncio.get_running_loop()
    answers: list[ConsumerStoppedError] = []
    asked = asyncio.Event()

    async def revocation() -> None:
        """In the main thread, as Faust's: it needs a call into the thread to be over."""
        asked.set()
        try:
            await thread.call_thread(asyncio.Event().wait)
        except ConsumerStoppedError as error:
            answers.append(error)

    def begin() -> "Future[None]":
        return asyncio.run_coroutine_threadsafe(revocation(), here)

    before: list[Future[None]] = []

    async def leave() -> None:
        """As aiokafka's: the member is not out before the revocation is over."""
        await asyncio.wrap_future(begin() if late else before[0])

    thread = new_thread(leave)
    await thread.start()
    if not late:
        before.append(begin())
        await asked.wait()

    assert await ends(thread)
    assert len(answers) == 1


@pytest.mark.logs_errors
@pytest.mark.parametrize("error", [asyncio.CancelledError(), OSError("gone")], ids=repr)
async def test_a_client_that_cannot_leave_does_not_keep_the_thread(error: BaseException) -> None:
    async def leave() -> None:
        raise error

    thread = new_thread(leave)
    await thread.start()

    assert await ends(thread)


async def test_a_client_that_never_leaves_does_not_keep_the_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def leave() -> None:
        await asyncio.Event().wait()

    thread = new_thread(leave)
    await thread.start()

    assert await ends(thread)
    assert "leave:" in caplog.text, "the log must say where it waited"


async def test_a_thread_that_does_not_run_yet_is_stopped_once_it_does() -> None:
    may_run = threading.Event()

    class LateThread(WorkerThread):
        def run(self) -> None:
            may_run.wait()
            super().run()

    thread = new_thread()
    thread.Worker = LateThread
    starting = asyncio.create_task(thread.start())
    await asyncio.sleep(0)
    stopping = asyncio.create_task(ends(thread))
    await asyncio.sleep(0)
    may_run.set()

    assert await stopping
    await asyncio.wait_for(starting, SOON)


@pytest_asyncio.fixture
async def topic(kafka: str, prefix: str) -> AsyncIterator[str]:
    name = prefix + "joined"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, 2, 1)])
    await admin.close()
    yield name


class Held(ConsumerRebalanceListener):  # type: ignore[misc]
    """Holds a join up: its member does not join again before `go_on`."""

    def __init__(self) -> None:
        self.assigned, self.revoked, self.go_on = (asyncio.Event() for _ in range(3))

    async def on_partitions_revoked(self, revoked: Any) -> None:
        if self.assigned.is_set():
            self.revoked.set()
            await self.go_on.wait()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self.assigned.set()


async def test_a_member_leaves_its_group_while_it_joins(kafka: str, topic: str) -> None:
    options: dict[str, Any] = {
        "bootstrap_servers": kafka,
        "group_id": topic,
        "rebalance_timeout_ms": 60_000,
        "session_timeout_ms": 30_000,
        "heartbeat_interval_ms": 200,
    }
    held = Held()
    other = AIOKafkaConsumer(**options)
    other.subscribe([topic], listener=held)
    await other.start()
    joins = LeasedConsumer(**options, lease=Lease(30.0))
    await joins.start()
    joins.subscribe([topic])
    try:
        await asyncio.wait_for(held.revoked.wait(), SOON)

        await asyncio.wait_for(joins.stop(), SOON)
        members = await members_of(kafka, topic)
    finally:
        held.go_on.set()
        await other.stop()

    assert len(members) == 1, "the group would wait for the session of the one that left"


async def members_of(kafka: str, group: str) -> list[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([group])
        ((_, _, _, _, _, members, *_),) = answer.groups
        return list(members)
    finally:
        await admin.close()
