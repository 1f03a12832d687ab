"""The consumer's client ends, whatever is under way in it and around it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ConsumerStoppedError

from billing_stream.engine.lease import Lease
from billing_stream.faust_adapter.consumer_client import ConsumerClient, LeasedConsumer

SOON = 20.0
"""A stop that hangs takes a minute, or for ever."""

Leave = Callable[[], Awaitable[None]]


class Client:
    """In the reference of the Kafka client; `leave` is its stop."""

    def __init__(self, leave: Leave) -> None:
        self.stop = leave

    async def start(self) -> None:
        pass


class Started(ConsumerClient):
    """With a client that needs no broker."""

    leave: Leave

    def __post_init__(self) -> None:
        super().__post_init__()

    def _create_worker_consumer(self, transport: Any) -> Any:
        return Client(self.leave)


async def nothing() -> None:
    pass


def new_client(leave: Leave = nothing) -> Started:
    conf = SimpleNamespace(
        producer_partitioner=None,
        stream_processing_timeout=300.0,
        broker_commit_livelock_soft_timeout=300.0,
    )
    app = SimpleNamespace(conf=conf, client_only=False)
    transport = SimpleNamespace(app=app)
    consumer: Any = SimpleNamespace(transport=transport, RebalanceListener=lambda client: None)
    consumer.app = app
    client = Started(consumer, loop=asyncio.get_running_loop())
    client.leave = leave
    return client


async def ends(client: Started) -> bool:
    """Stop it; whether it is gone."""
    await asyncio.wait_for(client.stop(), SOON)
    return client._thread is not None and not client._thread.is_alive()


async def test_a_call_that_a_stop_overtakes_fails_for_its_caller() -> None:
    client, begun = new_client(), asyncio.Event()
    await client.start()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(client.call_thread(never))
    await begun.wait()

    assert await ends(client)
    with pytest.raises(ConsumerStoppedError):
        await call


async def test_a_call_after_the_stop_fails_at_once() -> None:
    client = new_client()
    await client.start()
    assert await ends(client)

    with pytest.raises(ConsumerStoppedError):
        await asyncio.wait_for(client.call_thread(nothing), SOON)


async def test_a_cancelled_caller_is_cancelled_and_not_told_of_a_stop() -> None:
    client = new_client()
    await client.start()
    call = asyncio.create_task(client.call_thread(asyncio.Event().wait))
    await asyncio.sleep(0)
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert await ends(client)


async def test_calls_that_wait_do_not_keep_out_the_one_that_ends_their_wait() -> None:
    client = new_client()
    await client.start()
    sought = asyncio.Event()

    async def position() -> str:
        await sought.wait()
        return "known"

    async def seek() -> None:
        sought.set()

    waiting = [asyncio.create_task(client.call_thread(position)) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.wait_for(client.call_thread(seek), SOON)

    assert await asyncio.gather(*waiting) == ["known"] * 5
    assert await ends(client)


async def test_a_call_ends_when_its_caller_gives_up() -> None:
    client, ended = new_client(), asyncio.Event()
    await client.start()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.call_thread(never), 0.1)

    await asyncio.wait_for(ended.wait(), SOON)
    assert await ends(client)


@pytest.mark.parametrize("late", [False, True], ids=["under way", "after the last call"])
async def test_a_stop_that_meets_a_revocation_ends_the_client(late: bool) -> None:
    answers: list[ConsumerStoppedError] = []
    asked = asyncio.Event()

    async def revocation() -> None:
        """As Faust's: it needs a call to the client to be over."""
        asked.set()
        try:
            await client.call_thread(asyncio.Event().wait)
        except ConsumerStoppedError as error:
            answers.append(error)

    def begin() -> "asyncio.Task[None]":
        return asyncio.create_task(revocation())

    before: list[asyncio.Task[None]] = []

    async def leave() -> None:
        """As aiokafka's: the member is not out before the revocation is over."""
        await (begin() if late else before[0])

    client = new_client(leave)
    await client.start()
    if not late:
        before.append(begin())
        await asked.wait()

    assert await ends(client)
    assert len(answers) == 1


@pytest.mark.logs_errors
@pytest.mark.parametrize("error", [asyncio.CancelledError(), OSError("gone")], ids=repr)
async def test_a_client_that_cannot_leave_does_not_keep_the_stop(error: BaseException) -> None:
    async def leave() -> None:
        raise error

    client = new_client(leave)
    await client.start()

    assert await ends(client)


async def test_a_client_that_never_leaves_does_not_keep_the_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def leave() -> None:
        await asyncio.Event().wait()

    client = new_client(leave)
    await client.start()

    assert await ends(client)
    assert "leave:" in caplog.text, "the log must say where it waited"


async def test_a_client_that_does_not_run_yet_is_stopped_once_it_does() -> None:
    client = new_client()
    starting = asyncio.create_task(client.start())
    await asyncio.sleep(0)
    assert not client.started

    assert await ends(client)
    await asyncio.wait_for(starting, SOON)


@pytest.mark.logs_errors
async def test_a_client_that_cannot_start_says_so_to_who_starts_it() -> None:
    client = new_client()

    def refuse(transport: Any) -> Any:
        raise OSError("no broker")

    client._create_worker_consumer = refuse  # type: ignore[method-assign]

    with pytest.raises(OSError, match="no broker"):
        await asyncio.wait_for(client.start(), SOON)


async def test_the_tasks_of_others_outlive_the_client() -> None:
    client, other = new_client(), asyncio.create_task(asyncio.Event().wait())
    await client.start()

    assert await ends(client)

    assert not other.done()
    other.cancel()


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
