"""Ends what members of earlier generations left open, and marks again what was not marked.

A member writes under ids that name its generation, so a worker in a later one knows without asking
that they are not in use any more. It ends their open transactions: else those would be open until
they time out, and hold back every reader until then.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import uuid4

from aiokafka import TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.transaction import EndTxnRequest as EndTxnRequest1

from billing_stream.kafka.error_classes import ErrorClass, class_of, class_of_code
from billing_stream.kafka.producers import TRANSACTION_TIMEOUT_MS, new_producer
from billing_stream.kafka.start_deadline import find_coordinator
from billing_stream.kafka.transaction_offsets import Member
from billing_stream.kafka.transaction_protocol import TransactionalProducer
from billing_stream.kafka.transaction_requests import (
    DescribeProducersRequest,
    EndTxnRequest,
    ListTransactionsRequest,
)
from billing_stream.kafka.transaction_state import (
    ABORTED,
    BEGUN,
    COMMITTED,
    Described,
    described,
)

logger = logging.getLogger(__name__)

# UNKNOWN_SERVER_ERROR (Kafka 4.4, while somebody takes the id), INVALID_TXN_STATE and
# CONCURRENT_TRANSACTIONS: it has ended, or is ending.
_ENDED = frozenset({-1, 48, 51})
# The timeout of who takes over an id says what became of its last transaction: the coordinator
# forgets that when the id is taken, and who takes it may end before it has marked.
NOTED_COMMITTED_MS, NOTED_ABORTED_MS = TRANSACTION_TIMEOUT_MS + 1, TRANSACTION_TIMEOUT_MS + 2
PROTOCOL_2 = 2
_ENDS = "aborts", "commits"

Place = tuple[str, int]
"""A topic and a partition."""


def member_ids(app_id: str, generation: int, worker: str, count: int) -> list[str]:
    """Fresh ids under which a worker writes, since it joined a generation of the group.

    They begin as those of earlier releases do, so that no other rights are needed. All of a worker
    in a generation begin with its name, also where a static member starts again in it.
    """
    joined = uuid4().hex
    return [f"{app_id}-w.{generation}.{worker}.{joined}.{turn}" for turn in range(count)]


def generation_of(app_id: str, transactional_id: str) -> int | None:
    """The generation that an id of this app names; None for another id."""
    begin = f"{app_id}-w."
    number = transactional_id[len(begin) :].partition(".")[0]
    return int(number) if transactional_id.startswith(begin) and number.isdigit() else None


class Listed(NamedTuple):
    """A transactional id, as its coordinator lists it."""

    transactional_id: str
    producer_id: int
    state: str


class EarlierTransactions:
    """Those of one app, as `member` of its group finds them.

    `producers` are started, and are those of this worker by now; others are made with `options`.
    Transactions that the same `worker` began before it joined again are earlier, too, and those
    of `old_ids`, with which releases before 0.6.0 write its partitions.
    """

    def __init__(
        self,
        producers: Sequence[TransactionalProducer],
        options: Mapping[str, Any],
        app_id: str,
        member: Member,
        worker: str,
        old_ids: Collection[str],
    ) -> None:
        self._client = producers[0].client
        self._protocol = producers[0].protocol
        self._own_ids = frozenset(producer.transactional_id for producer in producers)
        self._options = options
        self._app_id = app_id
        self._member = member
        self._own = f"{app_id}-w.{member.generation}.{worker}."
        self._old_ids = frozenset(old_ids)

    async def end_open(self) -> None:
        """End the open transactions of members of earlier generations. Raises KafkaError."""
        for one in await self._listed(states=[BEGUN]):
            if self._is_earlier(one.transactional_id):
                state = await described(self._client, one.transactional_id)
                if state is not None and state.state == BEGUN:
                    await self._end(one.transactional_id, state)

    async def open_in(self, written: Sequence[Place]) -> Mapping[str, Sequence[Place]]:
        """By transactional id: where a transaction of an earlier member is open. Raises KafkaError.

        For a moment one is while it ends. A broker that was stopped can know a transaction as
        complete and not have marked all of its partitions: there it stays open.
        """
        found = await self._producers_in(written)
        if not found:
            return {}
        ids = await self._listed(producers=sorted(found))
        earlier = [one for one in ids if self._is_earlier(one.transactional_id)]
        return {one.transactional_id: sorted(found[one.producer_id]) for one in earlier}

    async def mark_again(
        self, written: Mapping[int, Collection[Place]], mine: Collection[int]
    ) -> None:
        """Mark the last transactions of earlier members again, where markers are missing.

        `written` has all (topic, partition) of each lane of the app. Of two workers that find the
        same one, only the owner of the first lane that may have written it marks it (`mine` are
        this worker's lanes): the other would abort its marking.
        """
        everywhere = sorted({place for places in written.values() for place in places})
        for transactional_id, places in (await self.open_in(everywhere)).items():
            if min(p for p, own in written.items() if not set(places).isdisjoint(own)) in mine:
                with _another_does_it_too():
                    await self._mark(transactional_id, places)

    def _is_earlier(self, transactional_id: str) -> bool:
        generation = generation_of(self._app_id, transactional_id)
        if generation is None:
            return transactional_id in self._old_ids
        if transactional_id.startswith(self._own):
            # Another worker's name may begin with this one's, and a dot.
            name_ends_here = transactional_id[len(self._own) :].count(".") == 1
            return name_ends_here and transactional_id not in self._own_ids
        return generation < self._member.generation

    async def _mark(self, transactional_id: str, places: Iterable[Place]) -> None:
        state = await described(self._client, transactional_id)
        if state is None or state.state == BEGUN:
            return
        if state.state in COMMITTED or state.timeout_ms == NOTED_COMMITTED_MS:
            note = NOTED_COMMITTED_MS
        elif state.state in ABORTED or state.timeout_ms == NOTED_ABORTED_MS:
            note = NOTED_ABORTED_MS
        else:
            return
        logger.warning("%s: markers are missing, and are written again", transactional_id)
        producer = self._producer(transactional_id, note)
        try:
            await producer.start()
            await producer.begin_transaction()
            await producer.add_partitions(TopicPartition(*place) for place in places)
            if self._member.group:
                await producer.add_group(self._member.group)
            if note == NOTED_COMMITTED_MS:
                await producer.commit_transaction()
            else:
                await producer.abort_transaction()
        finally:
            await producer.stop()

    async def _end(self, transactional_id: str, state: Described) -> None:
        """End an open transaction, by the epoch that it is described with.

        It is aborted, unless somebody began to mark a committed one again, and ended. Taking the id
        instead could come after its commit, and would make the coordinator forget that.
        """
        commit = state.timeout_ms == NOTED_COMMITTED_MS
        logger.info("%s the open transaction of %s", _ENDS[commit], transactional_id)
        node = await find_coordinator(self._client, CoordinationType.TRANSACTION, transactional_id)
        kind = EndTxnRequest if self._protocol >= PROTOCOL_2 else EndTxnRequest1
        producer = transactional_id, state.producer_id, state.epoch
        answer = await self._client.send(node, kind(*producer, commit))
        code = answer.error_code
        if code and code not in _ENDED and class_of_code(code) is not ErrorClass.FENCED:
            raise for_code(code)(transactional_id)

    def _producer(self, transactional_id: str, note: int) -> TransactionalProducer:
        return new_producer(self._options, transactional_id, transaction_timeout_ms=note)

    async def _listed(
        self, *, states: Sequence[str] = (), producers: Sequence[int] = ()
    ) -> list[Listed]:
        """Of all coordinators: each is a broker, and knows its own."""
        found = []
        for node in [broker.nodeId for broker in self._client.cluster.brokers()]:
            answer = await self._ask(node, ListTransactionsRequest(list(states), list(producers)))
            if answer.error_code:
                raise for_code(answer.error_code)(str(node))
            found += [Listed(*one[:3]) for one in answer.transactions]
        return found

    async def _ask(self, node: int, request: Any) -> Any:
        try:
            return await self._client.send(node, request)
        except KafkaError:
            # It may be gone: who asks again asks those that are there then.
            await self._client.force_metadata_update()
            raise

    async def _producers_in(self, written: Sequence[Place]) -> Mapping[int, list[Place]]:
        """By producer id: where a transaction of it is open."""
        cluster = self._client.cluster
        led: defaultdict[int, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for topic, partition in written:
            node = cluster.leader_for_partition(TopicPartition(topic, partition))
            if node is None or node < 0:
                # Markers are lost just when leaders are away.
                await self._client.force_metadata_update()
                raise LeaderNotAvailableError(f"{topic}[{partition}]")
            led[node][topic].append(partition)
        found: defaultdict[int, list[Place]] = defaultdict(list)
        for node, topics in led.items():
            request = DescribeProducersRequest([(t, ps, {}) for t, ps in topics.items()])
            answer = await self._ask(node, request)
            for topic, partitions, _ in answer.topics:
                for partition, code, _, producers, _ in partitions:
                    await self._require(code, topic)
                    for producer_id, *_, open_since, _ in producers:
                        if open_since >= 0:
                            found[producer_id].append((topic, partition))
        return found

    async def _require(self, code: int, topic: str) -> None:
        # Events are written by a worker and may not be read by it, and this counts as reading.
        if code in (0, TopicAuthorizationFailedError.errno):
            return
        if class_of_code(code) is ErrorClass.RETRIABLE:
            await self._client.force_metadata_update()
        raise for_code(code)(topic)


@contextmanager
def _another_does_it_too() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if class_of(error) is not ErrorClass.FENCED:
            raise
