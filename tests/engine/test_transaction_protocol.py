"""A late request ends, tears or fences nothing that its producer has open by then."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import InvalidTxnState, KafkaError, ProducerFenced

from billing_stream.engine.kafka_log import complete_last_transaction
from billing_stream.kafka.producers import new_producer
from billing_stream.kafka.transaction_protocol import TransactionalProducer, transaction_version
from billing_stream.kafka.transaction_requests import InitProducerIdRequest
from tests.support.audit import read_committed
from tests.support.late_request import (
    ADD_PARTITIONS,
    END_TXN,
    INIT_PRODUCER_ID,
    PRODUCE,
    LateRequest,
)

PARTITIONS = 3
# Kafka gives the id another producer id then.
EPOCH_MAX = 32_766
FENCED_CODES = {47, 90}
CONCURRENT_TRANSACTIONS = 51
REQUESTS = {"EndTxn": END_TXN, "Produce": PRODUCE, "AddPartitionsToTxn": ADD_PARTITIONS}

# In one process: `servers` shares the broker without its name being visible before a test runs.
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("tests/engine/test_transaction_protocol.py"),
]


class Scene:
    """A topic of three partitions, and the producers of one transactional id."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.topic = f"t{uuid.uuid4().hex[:10]}"
        self.id = f"{self.topic}-0-0"
        self.producers: list[Any] = []
        self.expected: set[bytes] = set()

    async def start(self) -> TransactionalProducer:
        """One more owner of the id."""
        producer = new_producer({"bootstrap_servers": self.servers}, self.id)
        await producer.start()
        self.producers.append(producer)
        return producer

    async def half(self, producer: Any, name: str, partitions: tuple[int, ...]) -> None:
        """A part of a transaction."""
        for number in partitions:
            await producer.send_and_wait(self.topic, name.encode(), partition=number)

    async def transaction(self, producer: Any, name: str, late: LateRequest | None = None) -> Any:
        """Commit records in each partition; a late request arrives in the middle of them."""
        answer = None
        await producer.begin_transaction()
        await self.half(producer, name, (0, 1))
        if late is not None:
            answer = await late.deliver()
        await self.half(producer, name, (1, 2))
        await producer.commit_transaction()
        self.expected.add(name.encode())
        return answer

    async def partitions_of(self, name: str) -> list[int]:
        """Where readers of what is committed find records of a transaction."""
        records = await read_committed(self.servers, [self.topic])
        return sorted(r.partition for r in records if r.value == name.encode())

    async def require_whole(self) -> None:
        """Each committed transaction is there once and as a whole, and nothing else."""
        records = await asyncio.wait_for(read_committed(self.servers, [self.topic]), 20)
        found = sorted((r.partition, r.value) for r in records)
        assert found == sorted((p, v) for p in (0, 1, 1, 2) for v in self.expected)


def errors_of(answer: Any) -> set[int]:
    """The error codes of a response to a request of a transaction."""
    if hasattr(answer, "error_code"):
        return {answer.error_code}
    topics = answer.errors if hasattr(answer, "errors") else answer.topics
    return {code for _, partitions, *_ in topics for _, code, *_ in partitions}


@asynccontextmanager
async def scene_on(servers: str) -> AsyncIterator[Scene]:
    scene = Scene(servers)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(scene.topic, PARTITIONS, 1)])
    await admin.close()
    try:
        yield scene
    finally:
        for producer in scene.producers:
            with suppress(KafkaError):
                await producer.stop()


@pytest.mark.parametrize("arrives", [False, True], ids=["held back", "a copy held back"])
@pytest.mark.parametrize("kind", REQUESTS)
async def test_late_request_leaves_a_later_transaction_whole(
    servers: str, kind: str, arrives: bool
) -> None:
    async with scene_on(servers) as scene:
        producer = await scene.start()
        if producer.protocol == 2 and kind == "AddPartitionsToTxn":
            return  # Version 2 does not send it.
        await scene.transaction(producer, "before")
        late = LateRequest(producer, REQUESTS[kind], arrives=arrives)
        await scene.transaction(producer, "unanswered")
        assert late.held

        for number in range(1, 11):
            during = late if number in (1, 3, 10) else None
            answer = await scene.transaction(producer, f"after {number}", during)
            assert during is None or errors_of(answer) <= FENCED_CODES

        await scene.require_whole()


async def test_aiokafka_alone_tears_a_transaction_by_a_late_end(
    kafka_without_the_feature: str,
) -> None:
    # The fault that all of this is for. When this fails, aiokafka has fixed it.
    async with scene_on(kafka_without_the_feature) as scene:
        producer = AIOKafkaProducer(
            bootstrap_servers=scene.servers, transactional_id=scene.id, retry_backoff_ms=10
        )
        await producer.start()
        scene.producers.append(producer)
        late = LateRequest(producer, END_TXN)
        await scene.transaction(producer, "unanswered")
        await producer.begin_transaction()
        await scene.half(producer, "open", (0, 1))

        assert (await late.deliver()).error_code == 0

        async with asyncio.timeout(20):
            while await scene.partitions_of("open") != [0, 1]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        with pytest.raises(InvalidTxnState):
            await scene.half(producer, "open", (1,))


async def test_late_request_between_two_transactions_opens_none(servers: str) -> None:
    async with scene_on(servers) as scene:
        producer = await scene.start()
        for kind in (PRODUCE, END_TXN) + ((ADD_PARTITIONS,) if producer.protocol == 1 else ()):
            late = LateRequest(producer, kind)
            await scene.transaction(producer, f"unanswered {kind}")
            # So that a new epoch, if one is needed, is there.
            await producer.begin_transaction()
            await producer.commit_transaction()

            await late.deliver()

            # A transaction left open would hold readers back before its first record.
            await scene.require_whole()
            await scene.transaction(producer, f"after {kind}")
        await scene.require_whole()


async def test_producer_that_was_fenced_while_it_waited_for_an_answer_stays_so(
    servers: str,
) -> None:
    async with scene_on(servers) as scene:
        first = await scene.start()
        await scene.transaction(first, "of the first")
        # Its commit arrives, and the answer does not; before it asks again, it is replaced.
        late = LateRequest(first, END_TXN, arrives=True)
        await first.begin_transaction()
        await scene.half(first, "committed", (0, 1, 1, 2))
        first._sender._retry_backoff = 2.0
        committing = asyncio.create_task(first.commit_transaction())
        await late.wait_held()
        second = await scene.start()
        scene.expected.add(b"committed")
        await second.begin_transaction()
        await scene.half(second, "of the second", (0, 1))

        with pytest.raises((ProducerFenced, KafkaError)):
            await committing
        with pytest.raises((ProducerFenced, KafkaError)):
            await scene.transaction(first, "of a zombie")

        await scene.half(second, "of the second", (1, 2))
        await second.commit_transaction()
        scene.expected.add(b"of the second")
        await scene.transaction(second, "more of the second")
        await scene.require_whole()


@pytest.mark.parametrize("open_transaction", [True, False], ids=["in a transaction", "idle"])
async def test_new_owner_outlives_a_zombie_that_takes_another_epoch(
    kafka_without_the_feature: str, open_transaction: bool
) -> None:
    async with scene_on(kafka_without_the_feature) as scene:
        zombie = await scene.start()
        await scene.transaction(zombie, "of the first")
        # All is committed, but it has to take a new epoch, and sleeps before it does.
        LateRequest(zombie, END_TXN)
        asleep, awake = asyncio.Event(), asyncio.Event()
        initialise = zombie._sender._do_init_pid

        async def late(node: int) -> Any:
            asleep.set()
            await awake.wait()
            return await initialise(node)

        zombie._sender._do_init_pid = late  # type: ignore[method-assign,assignment]
        await scene.transaction(zombie, "unanswered")
        await asleep.wait()
        owner = await scene.start()
        if open_transaction:
            await owner.begin_transaction()
            await scene.half(owner, "of the owner", (0, 1))

        awake.set()
        with pytest.raises(ProducerFenced):
            await scene.transaction(zombie, "of a zombie")

        if open_transaction:
            await scene.half(owner, "of the owner", (1, 2))
            await owner.commit_transaction()
            scene.expected.add(b"of the owner")
        await scene.transaction(owner, "more of the owner")
        await scene.require_whole()


async def test_repeated_initialisation_keeps_the_epoch_of_its_first_answer(
    kafka_without_the_feature: str,
) -> None:
    async with scene_on(kafka_without_the_feature) as scene:
        producer = await scene.start()
        LateRequest(producer, END_TXN)
        again = LateRequest(producer, INIT_PRODUCER_ID, arrives=True)
        await scene.transaction(producer, "unanswered")
        before = producer._txn_manager.producer_epoch

        await scene.transaction(producer, "after")

        assert again.held
        assert producer._txn_manager.producer_epoch == before + 1
        # Between two transactions its copy changes nothing, or comes while markers are written.
        assert (await again.deliver()).error_code in (0, CONCURRENT_TRANSACTIONS)
        await scene.transaction(producer, "more")
        await scene.require_whole()


async def test_late_first_initialisation_fences_its_owner_and_loses_nothing(servers: str) -> None:
    async with scene_on(servers) as scene:
        producer = new_producer({"bootstrap_servers": servers}, scene.id)
        scene.producers.append(producer)
        late = LateRequest(producer, INIT_PRODUCER_ID)
        await producer.start()
        await scene.transaction(producer, "before")

        with pytest.raises((ProducerFenced, KafkaError)):
            await scene.transaction(producer, "open", late)

        await scene.transaction(await scene.start(), "after")
        await scene.require_whole()


@pytest.mark.parametrize("kind", ["EndTxn", "AddPartitionsToTxn"])
async def test_late_request_of_the_second_end_leaves_the_first_transaction_whole(
    servers: str, kind: str
) -> None:
    async with scene_on(servers) as scene:
        await scene.transaction(await scene.start(), "before")
        producer = await scene.start()
        late = LateRequest(producer, REQUESTS[kind])

        everywhere = [(scene.topic, number) for number in range(PARTITIONS)]
        await complete_last_transaction(producer, "CompleteCommit", everywhere)

        assert errors_of(await scene.transaction(producer, "open", late)) <= FENCED_CODES
        await scene.transaction(producer, "last")
        await scene.require_whole()


async def test_records_wait_for_a_leader_as_long_as_it_takes(servers: str) -> None:
    async with scene_on(servers) as scene:
        producer = await scene.start()
        await scene.transaction(producer, "before")
        cluster, leader_of = producer.client.cluster, producer.client.cluster.leader_for_partition
        cluster.leader_for_partition = lambda tp: None
        await producer.begin_transaction()
        builder = producer.create_batch()
        builder.append(key=None, value=b"late", timestamp=None)
        sent = await producer.send_batch(builder, scene.topic, partition=0)
        # The time that aiokafka gives a batch is over.
        for batches in producer._message_accumulator._batches.values():
            for batch in batches:
                batch._ctime -= 3600
        await asyncio.sleep(0.3)
        assert not sent.done()

        cluster.leader_for_partition = leader_of
        await asyncio.wait_for(sent, 20)
        await producer.commit_transaction()
        assert await scene.partitions_of("late") == [0]


@pytest.mark.parametrize("kind", [PRODUCE, END_TXN], ids=["Produce", "EndTxn"])
async def test_request_on_a_closed_transport_is_sent_again(servers: str, kind: int) -> None:
    async with scene_on(servers) as scene:
        producer = await scene.start()
        send, failures = producer.client.send, [RuntimeError("the handler is closed")]

        async def fail_once(node: int, request: Any, **options: Any) -> Any:
            if kind == request.API_KEY and failures:
                raise failures.pop()
            return await send(node, request, **options)

        producer.client.send = fail_once
        await scene.transaction(producer, "one")
        await scene.transaction(producer, "two")

        assert not failures
        await scene.require_whole()


async def test_version_is_that_of_the_cluster(kafka_without_the_feature: str, kafka: str) -> None:
    found = []
    for servers in (kafka_without_the_feature, kafka):
        client = AIOKafkaClient(bootstrap_servers=servers)
        await client.bootstrap()
        level = await transaction_version(client)
        await client.close()
        async with scene_on(servers) as scene:
            producer = await scene.start()
            assert producer.protocol == (2 if level >= 2 else 1)
        found.append(level)
    assert found[0] == 0


async def test_end_that_fails_in_the_broker_is_sent_again(kafka: str) -> None:
    async with scene_on(kafka) as scene:
        producer = await scene.start()
        if producer.protocol == 1:
            return  # Its EndTxn has no such answer.
        send, failures = producer.client.send, [-1]

        async def fail_once(node: int, request: Any, **options: Any) -> Any:
            answer = await send(node, request, **options)
            if request.API_KEY == END_TXN and failures:
                answer.error_code = failures.pop()
            return answer

        producer.client.send = fail_once
        await scene.transaction(producer, "first")
        assert failures == []

        await scene.transaction(producer, "second")
        await scene.require_whole()


async def raise_epoch(servers: str, transactional_id: str, epoch: int) -> int:
    """Initialise the id again and again, up to this epoch; its producer id."""
    client = AIOKafkaClient(bootstrap_servers=servers)
    await client.bootstrap()
    try:
        node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
        found, reached = -1, -1
        while reached < epoch:
            request = InitProducerIdRequest(transactional_id, 60_000, found, reached)
            answer: Any = await client.send(node, request)
            assert answer.error_code in (0, CONCURRENT_TRANSACTIONS)
            if answer.error_code == 0:
                found, reached = answer.producer_id, answer.producer_epoch
        return found
    finally:
        await client.close()


@pytest.mark.full
async def test_transactions_continue_when_a_producer_id_has_no_epoch_left(
    servers: str,
) -> None:
    async with scene_on(servers) as scene:
        old_id = await raise_epoch(servers, scene.id, EPOCH_MAX - 10)
        producer = await scene.start()
        assert producer._txn_manager.producer_id == old_id

        for number in range(20):
            if producer.protocol == 1:
                # In version 1 only a request without an answer takes another epoch.
                LateRequest(producer, END_TXN)
            await scene.transaction(producer, f"{number:02}")

        assert producer._txn_manager.producer_id != old_id
        await scene.require_whole()
        records = await read_committed(servers, [scene.topic])
        for partition in range(PARTITIONS):
            values = [r.value for r in records if r.partition == partition]
            assert values == sorted(values)
