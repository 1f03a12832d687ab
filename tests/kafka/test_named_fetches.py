"""A fetch names its log; a broker's refusal of it reaches the reader as an offset out of range."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import NotLeaderForPartitionError, OffsetOutOfRangeError
from aiokafka.protocol.fetch import FetchRequest

from billing_stream.kafka import log_requests, named_fetches
from billing_stream.kafka.named_fetches import MANY_BYTES, NamedFetches
from billing_stream.kafka.topic_logs import LogName

ID = bytes(range(16))
NAME = LogName(ID, 7, 1)
FETCH = log_requests.FetchRequest._CLASSES[0]
FETCHED = FETCH.RESPONSE_TYPE
AS_ASKED = FetchRequest(50, 1, 100, 1, [("t", [(0, 12, 99)]), ("u", [(3, 4, 99)])])


class Client:
    """Answers one fetch of partition 0 with this error, and keeps what was sent."""

    def __init__(self, error: int = 0, *, old: bool = False, raw: bytes = b"raw") -> None:
        self.error = error
        self.raw = raw
        self.old = old
        self.sent: list[Any] = []

    async def send(self, _node: int, request: Any, **_options: Any) -> Any:
        """The response of a broker, through its bytes."""
        if self.old:
            if not isinstance(request, FetchRequest):
                raise NotImplementedError
            return SimpleNamespace(API_VERSION=11, topics=[])
        encoded = request.prepare({1: (4, 17)})
        self.sent.append(FETCH.decode(encoded.encode()))
        one: Any = (0, self.error, 20, 19, 2, [(5, 12, {})], -1, self.raw, {})
        return FETCHED.decode(FETCHED(0, 0, 0, [(ID, [one], {})], {}).encode())


async def fetched(client: Client) -> dict[str, Any]:
    fetches = NamedFetches(client)
    fetches.names[TopicPartition("t", 0)] = NAME
    answer = await client.send(1, AS_ASKED)
    return {topic: partitions[0] for topic, partitions in answer.topics}


async def test_fetch_has_topic_id_and_leader_epoch_and_none_for_unknown_logs() -> None:
    client = Client()

    found = await fetched(client)

    (sent,) = client.sent
    ((topic_id, ((partition, epoch, offset, *_),), _),) = sent.topics
    assert (topic_id, partition, epoch, offset) == (ID, 0, 7, 12)
    assert found["t"] == (0, 0, 20, 19, 2, [(5, 12)], -1, b"raw")
    assert "u" not in found, "nothing was fetched"


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (named_fetches.UNKNOWN_TOPIC_ID, OffsetOutOfRangeError),
        (named_fetches.INCONSISTENT_TOPIC_ID, OffsetOutOfRangeError),
        (named_fetches.FENCED_LEADER_EPOCH, OffsetOutOfRangeError),
        (OffsetOutOfRangeError.errno, OffsetOutOfRangeError),
        # A broker that has not heard of its election yet.
        (named_fetches.UNKNOWN_LEADER_EPOCH, NotLeaderForPartitionError),
    ],
)
async def test_refusal_of_another_log_is_an_offset_out_of_range(error: int, raised: Any) -> None:
    found = await fetched(Client(error))

    assert found["t"][1] == raised.errno


async def test_broker_without_topic_ids_is_asked_by_name() -> None:
    client = Client(old=True)

    assert await fetched(client) == {}


async def test_all_is_named_to_a_broker_that_was_upgraded_meanwhile() -> None:
    client = Client(old=True)
    fetches = NamedFetches(client)
    fetches.names[TopicPartition("t", 0)] = NAME
    await client.send(1, AS_ASKED)
    client.old = False

    await client.send(1, AS_ASKED)

    (sent,) = client.sent
    assert [topic_id for topic_id, *_ in sent.topics] == [ID]


@pytest.mark.parametrize(
    ("size", "waits"), [(0, True), (MANY_BYTES - 1, True), (MANY_BYTES, False)]
)
async def test_a_fetch_waits_for_its_use_unless_the_last_brought_much(
    size: int, waits: bool
) -> None:
    asked = 0

    def seconds_to_use() -> float:
        nonlocal asked
        asked += 1
        return 0.01

    client = Client(raw=bytes(size))
    fetches = NamedFetches(client, seconds_to_use)
    fetches.names[TopicPartition("t", 0)] = NAME
    await client.send(1, AS_ASKED)
    loop, before = asyncio.get_running_loop(), asked
    began = loop.time()

    await client.send(1, AS_ASKED)

    assert asked - before == waits
    assert (loop.time() - began >= 0.01) or not waits
    assert len(client.sent) == 2


async def test_the_fetcher_looks_at_named_partitions_with_a_place_only() -> None:
    def state(*, placed: bool = True, paused: bool = False) -> Any:
        return SimpleNamespace(has_valid_position=placed, paused=paused)

    names = ("fetched", "paused", "without a place", "changelog", "gone")
    tps = {name: TopicPartition(name, 0) for name in names}
    states = {
        tps["fetched"]: state(),
        tps["paused"]: state(paused=True),
        tps["without a place"]: state(placed=False),
        tps["changelog"]: state(),
    }
    assignment = SimpleNamespace(tps=frozenset(states), state_value=states.get)
    fetcher = SimpleNamespace(_get_actions_per_node=lambda seen: list(seen.tps))
    fetches = NamedFetches(Client())
    fetches.names |= {tp: NAME for name, tp in tps.items() if name != "changelog"}

    fetches.followed_by(fetcher)

    assert fetcher._get_actions_per_node(assignment) == [tps["fetched"]]
