"""Fetches that name the log they want, so that a broker rejects those for any other.

aiokafka's fetcher asks for a topic's name and an offset. After the topic was deleted and created
again, or its log truncated and written on, such a fetch continues in the middle of other records,
and nothing shows it. Here each fetch has the topic's id, and the epoch of the leader under which
the log was looked at; a change of either comes to the reader as OffsetOutOfRangeError.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import NotLeaderForPartitionError, OffsetOutOfRangeError
from aiokafka.protocol.fetch import FetchRequest as FetchByName
from aiokafka.protocol.fetch import FetchRequest_v4

from billing_stream.kafka.fetch_sessions import FetchSession
from billing_stream.kafka.log_requests import Place, fetch_from
from billing_stream.kafka.topic_logs import LogName

logger = logging.getLogger(__name__)

FENCED_LEADER_EPOCH = 74
UNKNOWN_LEADER_EPOCH = 76
UNKNOWN_TOPIC_ID = 100
INCONSISTENT_TOPIC_ID = 103
# To be looked at again.
_OTHER_LOG = frozenset({FENCED_LEADER_EPOCH, UNKNOWN_TOPIC_ID, INCONSISTENT_TOPIC_ID})
# An answer with so much shows that more is there than one transaction takes.
MANY_BYTES = 1 << 16
# The layout that the fetcher expects.
_LAYOUT = 11


class NamedFetches:
    """Gives names to the fetches of one client.

    Of a partition without a name nothing is fetched. A broker older than Kafka 3.1 does not know
    such fetches, and is asked without names. A fetch that follows one with few records waits for
    `seconds_to_use`: its records could not be used before, and one fetch later brings them all.
    """

    def __init__(self, client: Any, seconds_to_use: Callable[[], float] = lambda: 0.0) -> None:
        self.names: dict[TopicPartition, LogName] = {}
        self._seconds_to_use = seconds_to_use
        # By node, whether its last answer had many records.
        self._many: defaultdict[int, bool] = defaultdict(bool)
        # By node; the fetcher has one fetch at a time to each.
        self._sessions: defaultdict[int, FetchSession] = defaultdict(FetchSession)
        self._send = client.send
        client.send = self._named

    def followed_by(self, fetcher: Any) -> None:
        """Have a consumer's fetcher look at no partitions but those that it may fetch.

        It would wait for each of the others, changelogs among them, again with each fetch.
        """
        actions = fetcher._get_actions_per_node
        fetcher._get_actions_per_node = lambda assignment: actions(_Fetched(assignment, self.names))

    async def _named(self, node_id: int, request: Any, **options: Any) -> Any:
        if not isinstance(request, FetchByName):
            return await self._send(node_id, request, **options)
        asked = request.build(FetchRequest_v4)
        places: list[Place] = []
        topics: dict[bytes, str] = {}
        for topic, partitions in asked.topics:
            for partition, offset, size in partitions:
                name = self.names.get(TopicPartition(topic, partition))
                if name is not None:
                    topics[name.topic_id] = topic
                    places.append(Place(name.topic_id, partition, name.leader_epoch, offset, size))
        if not places:
            await asyncio.sleep(asked.max_wait_time / 1000)
            return _answer([])
        seconds = 0.0 if self._many[node_id] else self._seconds_to_use()
        if seconds > 0:
            await asyncio.sleep(seconds)
        session = self._sessions[node_id]
        named = fetch_from(
            session.next(places),
            max_wait_ms=asked.max_wait_time,
            min_bytes=asked.min_bytes,
            max_bytes=asked.max_bytes,
            isolation_level=asked.isolation_level,
        )
        try:
            answer = await self._send(node_id, named, **options)
        except BaseException as error:
            session.failed()
            if isinstance(error, NotImplementedError):
                return await self._send(node_id, request, **options)
            raise
        session.answered(answer)
        if answer.error_code:
            # Most likely the broker has started again, and knows no session.
            logger.debug("fetch from node %s: error %s", node_id, answer.error_code)
            await asyncio.sleep(asked.max_wait_time / 1000)
        found = [
            (topics[topic_id], [_as_expected(one) for one in partitions])
            for topic_id, partitions, *_ in answer.topics
            if topic_id in topics
        ]
        size = sum(len(one[-1]) for _, partitions in found for one in partitions)
        self._many[node_id] = size >= MANY_BYTES
        return _answer(found)


class _Fetched:
    """What the fetcher asks of an assignment, of those partitions that may be fetched."""

    def __init__(self, assignment: Any, names: Iterable[TopicPartition]) -> None:
        self.state_value = assignment.state_value
        states = [(tp, assignment.state_value(tp)) for tp in names]
        self.tps = [
            tp for tp, state in states if state and state.has_valid_position and not state.paused
        ]


def _answer(topics: list[Any]) -> Any:
    return SimpleNamespace(API_VERSION=_LAYOUT, topics=topics)


def _as_expected(one: Any) -> Any:
    partition, error, high, stable, begin, aborted, replica, raw, *_ = one
    if error in _OTHER_LOG:
        # The fetcher raises it to the reader.
        return _nothing(partition, OffsetOutOfRangeError.errno)
    if error == UNKNOWN_LEADER_EPOCH:
        # The broker has not heard of it yet: the fetcher asks again.
        return _nothing(partition, NotLeaderForPartitionError.errno)
    transactions = [(producer, first) for producer, first, *_ in aborted or ()]
    return partition, error, high, stable, begin, transactions, replica, raw or b""


def _nothing(partition: int, error: int = 0) -> Any:
    return partition, error, -1, -1, -1, [], -1, b""
