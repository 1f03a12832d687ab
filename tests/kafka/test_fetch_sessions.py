"""A fetch in a session says what changed, and the broker reads what the client wants read."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from hypothesis import given
from hypothesis import strategies as st

from billing_stream.kafka.fetch_sessions import EPOCH_MAX, FetchSession
from billing_stream.kafka.log_requests import FetchRequest, Place, SessionFetch
from billing_stream.kafka.named_fetches import NamedFetches
from billing_stream.kafka.topic_logs import LogName, look_at_logs

INVALID_FETCH_SESSION_EPOCH = 71
SESSION_ID_NOT_FOUND = 70
PARTITIONS = 8


class Broker:
    """Knows one session, as KIP-227 has it."""

    def __init__(self) -> None:
        self.ids = iter(range(1, 1_000))
        self.session: tuple[int, int] | None = None
        self.places: dict[tuple[bytes, int], Place] = {}
        self.has_room = True

    def fetch(self, asked: SessionFetch) -> Any:
        """The error and the session of the answer; afterwards `places` are those that it read."""
        if asked.epoch == 0:
            self.places, self.session = {}, None
            session_id = next(self.ids) if self.has_room else 0
        elif self.session is None or asked.session_id != self.session[0]:
            return SimpleNamespace(error_code=SESSION_ID_NOT_FOUND, session_id=0)
        elif asked.epoch != self.session[1]:
            return SimpleNamespace(error_code=INVALID_FETCH_SESSION_EPOCH, session_id=0)
        else:
            session_id = asked.session_id
        for place in asked.forgotten:
            del self.places[place.topic_id, place.partition]
        self.places |= {(place.topic_id, place.partition): place for place in asked.places}
        self.session = (session_id, asked.epoch + 1) if session_id else None
        return SimpleNamespace(error_code=0, session_id=session_id)


def place(topic: int, partition: int, offset: int, leader: int = 0) -> Place:
    return Place(bytes([topic]) * 16, partition, leader, offset, 1_000)


WANTED = st.dictionaries(
    st.tuples(st.integers(0, 1), st.integers(0, 2)), st.tuples(st.integers(0, 3), st.integers(0, 1))
).map(lambda found: [place(*log, *at) for log, at in found.items()])
HAPPENS = st.sampled_from(["answered", "answer lost", "never sent", "restarted", "no room"])


@given(st.lists(st.tuples(WANTED, HAPPENS), max_size=20))
def test_a_broker_reads_what_is_wanted_whatever_gets_lost(steps: list[tuple[Any, str]]) -> None:
    broker, session = Broker(), FetchSession()
    for wanted, happens in steps:
        if happens == "restarted":
            broker = Broker()
        broker.has_room = happens != "no room"
        asked = session.next(wanted)
        if happens == "never sent":
            session.failed()
            continue
        answer = broker.fetch(asked)
        if happens == "answer lost":
            session.failed()
            continue
        session.answered(answer)
        if answer.error_code:
            answer = broker.fetch(session.next(wanted))
            session.answered(answer)
        assert not answer.error_code
        assert set(broker.places.values()) == set(wanted)


def test_an_epoch_goes_on_after_the_largest() -> None:
    session = FetchSession()
    session._epoch = EPOCH_MAX

    session.answered(SimpleNamespace(error_code=0, session_id=5))

    assert session.next([])[2:] == (5, 1)


@pytest_asyncio.fixture
async def topic(kafka: str, prefix: str) -> AsyncIterator[str]:
    name = prefix + "fetched"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    await admin.close()
    yield name


async def test_kafka_sends_the_records_of_fetches_that_name_no_partition(
    kafka: str, topic: str
) -> None:
    logs = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, fetch_max_wait_ms=20, auto_offset_reset="none"
    )
    named: list[int] = []
    await consumer.start()
    try:
        send = consumer._client.send

        async def noted(node_id: int, request: Any, **options: Any) -> Any:
            if isinstance(request, FetchRequest):
                topics, forgotten = request._fields[7:9]
                named.append(sum(len(partitions) for _, partitions, _ in [*topics, *forgotten]))
            return await send(node_id, request, **options)

        consumer._client.send = noted
        fetches = NamedFetches(consumer._client)
        consumer.assign(logs)
        for log in logs:
            consumer.seek(log, 0)
        known: dict[TopicPartition, LogName] = {}
        while len(known) < PARTITIONS:
            # A new partition has no leader at first.
            _, names = await look_at_logs(consumer, dict.fromkeys(logs))
            known |= names.logs
        fetches.names |= known
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        try:
            for number in range(40):
                value = str(number).encode()
                await producer.send_and_wait(topic, value, partition=number % 3)
                found = await consumer.getone()
                assert (found.partition, found.value) == (number % 3, value)
        finally:
            await producer.stop()
    finally:
        await consumer.stop()

    assert max(named) == PARTITIONS, "the first fetch of the session"
    assert named.count(PARTITIONS) == 1
    assert max(named[named.index(PARTITIONS) + 1 :]) <= 2
