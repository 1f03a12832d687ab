"""Transactions that no late request can end: an extension of aiokafka's producer.

aiokafka repeats a request after a timeout or a reset, with the same producer id and epoch. The
first copy may still arrive, and acts on the transaction that is open by then. Two remedies:

- Version 2 of the protocol (KIP-890), where the cluster has finalized the feature
  `transaction.version` 2: each EndTxn gives the next transaction a new epoch, so the broker
  rejects every request of an earlier one. A Produce request adds its own partitions.
- Version 1, for all other clusters: a producer that got no clean answer to a request takes a
  new epoch before its next transaction. It sends its current producer id and epoch (KIP-360),
  so that a producer which has been fenced cannot return.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import CoordinationType
from aiokafka.errors import (
    InvalidTxnState,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    ProducerFenced,
)
from aiokafka.producer.sender import AddOffsetsToTxnHandler, Sender
from aiokafka.producer.transaction_manager import (
    NO_PRODUCER_ID,
    PidAndEpoch,
    TransactionManager,
    TransactionState,
)
from aiokafka.structs import TopicPartition
from aiokafka.util import create_future

from billing_stream.kafka.transaction_handlers import (
    DescribeHandler,
    EndHandler,
    ProduceHandler,
    ReinitialiseHandler,
)
from billing_stream.kafka.transaction_offsets import Member, NotMember, OffsetsHandler
from billing_stream.kafka.transaction_requests import ApiVersionsRequest, finalized_level

PROTOCOL_2_LEVEL = 2
VERSION_SECONDS_MAX = 60.0
RETRY_SECONDS = 0.1
ADDED_POLL_SECONDS = 0.002


async def transaction_version(client: Any) -> int:
    """The finalized level of the feature `transaction.version`; 0 where it is missing.

    `client` is a started AIOKafkaClient. Raises KafkaError when no broker answers in time.
    """
    request = ApiVersionsRequest("aiokafka", "0")
    try:
        async with asyncio.timeout(VERSION_SECONDS_MAX):
            while True:
                try:
                    answer = await client.send(client.get_random_node(), request)
                    return finalized_level(answer)
                except NotImplementedError:
                    # The broker is older than the features.
                    return 0
                except KafkaError as error:
                    if not error.retriable:
                        raise
                await asyncio.sleep(RETRY_SECONDS)
    except TimeoutError:
        raise KafkaError("no broker says which features the cluster has") from None


class TransactionalProducer(AIOKafkaProducer):
    """A producer: its late requests cannot affect a later transaction of its own.

    Every call that takes part in a transaction raises ProducerFenced when another producer has
    taken the transactional id.
    """

    def __init__(
        self,
        *,
        transactional_id: str,
        transaction_timeout_ms: int,
        request_timeout_ms: int,
        retry_backoff_ms: int = 100,
        **options: Any,
    ) -> None:
        super().__init__(
            transactional_id=transactional_id,
            request_timeout_ms=request_timeout_ms,
            retry_backoff_ms=retry_backoff_ms,
            acks="all",
            **options,
        )
        manager = _Manager(transactional_id, transaction_timeout_ms)
        self._txn_manager = self._message_accumulator._txn_manager = manager
        # Records of a transaction wait for a leader as long as it takes. Given up after a time, the
        # transaction could not commit.
        self._message_accumulator._batch_ttl = math.inf
        self._sender = _Sender(
            self.client,
            txn_manager=manager,
            message_accumulator=self._message_accumulator,
            acks=-1,
            retry_backoff_ms=retry_backoff_ms,
            request_timeout_ms=request_timeout_ms,
        )

    @property
    def protocol(self) -> int:
        """The version of the transaction protocol that is spoken, 1 or 2. Known after `start`."""
        version: int = self._txn_manager.protocol
        return version

    async def start(self) -> None:
        """Connect, choose the version and take the transactional id."""
        await self.client.bootstrap()
        level = await transaction_version(self.client)
        self._txn_manager.protocol = 2 if level >= PROTOCOL_2_LEVEL else 1
        await self._sender.start()

    @property
    def transactional_id(self) -> str:
        """Its transactional id."""
        return str(self._txn_manager.transactional_id)

    async def add_offsets(self, member: Member, offsets: Mapping[TopicPartition, int]) -> None:
        """Make offsets part of the transaction, as a member of a group.

        Raises NotMember where the group has another generation by now, and KafkaError.
        """
        if member.generation < 0:
            # Of such the group asks for nothing: clients before KIP-447 send no generation.
            raise NotMember
        await asyncio.shield(self._txn_manager.add_offsets_of(member, offsets))

    async def add_group(self, group: str) -> None:
        """Make the offsets of a group part of the transaction, without any. Raises KafkaError."""
        handler, sender = AddOffsetsToTxnHandler(self._sender, group), self._sender
        id = self.transactional_id
        while not await handler.do(
            await sender._find_coordinator(CoordinationType.TRANSACTION, id)
        ):
            pass

    async def add_partitions(self, partitions: Iterable[TopicPartition]) -> None:
        """Add partitions without records, so that they get its marker. Raises KafkaError."""
        manager = self._txn_manager
        for partition in partitions:
            manager.announce_partition(partition)
        # The sender tells nobody that it has added them.
        while manager.partitions_to_add() and not manager.is_fatal_error():  # noqa: ASYNC110
            await asyncio.sleep(ADDED_POLL_SECONDS)
        manager.raise_fatal_error()


class _Manager(TransactionManager):
    """Gives each transaction the epoch that its version of the protocol demands."""

    def __init__(self, transactional_id: str, transaction_timeout_ms: int) -> None:
        super().__init__(transactional_id, transaction_timeout_ms)
        self.protocol = 1
        self.unanswered = False
        self.reinitialising = False
        self.member = Member("", -1, "")

    def add_offsets_of(self, member: Member, offsets: Mapping[TopicPartition, int]) -> Any:
        """Queue offsets; the future is done when they are accepted or refused."""
        self.member = member
        if self.protocol >= 2:
            # The request adds the group by itself.
            self.consumer_group_added(member.group)
        return self.add_offsets_to_txn(offsets, member.group)

    def offsets_accepted(self, error: BaseException | None) -> None:
        """The group has answered; with an error, the transaction can only be aborted."""
        _, _, accepted = self._pending_txn_offsets.popleft()
        if not accepted.done():
            accepted.set_result(None) if error is None else accepted.set_exception(error)

    def has_pid(self) -> bool:
        """Whether requests can be sent; not while a new epoch is to come."""
        return self.state is not TransactionState.UNINITIALIZED and bool(super().has_pid())

    def set_pid_and_epoch(self, pid: int, epoch: int) -> None:
        """Take what InitProducerId answered; the next transaction can begin."""
        self.next_epoch(pid, epoch)
        self.unanswered = self.reinitialising = False
        super().set_pid_and_epoch(pid, epoch)

    def next_epoch(self, pid: int, epoch: int) -> None:
        """Continue with another epoch; each counts its sequence numbers from 0."""
        self._pid_and_epoch = PidAndEpoch(pid, epoch)
        self._sequence_numbers.clear()

    def begin_transaction(self) -> None:
        """Begin a transaction. Raises what the sender ended with, also since the last one."""
        self.raise_fatal_error()
        super().begin_transaction()

    def raise_fatal_error(self) -> None:
        """Raise what the sender ended with, if it has, for instance fenced."""
        if self.is_fatal_error():
            self._transaction_waiter.result()

    def complete_transaction(self) -> None:
        """End it; after a request without an answer, the next one waits for a new epoch."""
        super().complete_transaction()
        if self.unanswered and self.protocol < 2:
            # The sender initialises again, and the next transaction waits for that.
            self.state = TransactionState.UNINITIALIZED
            self._pid_waiter = create_future()

    def error_transaction(self, exc: BaseException) -> None:
        """Leave only the abort of this transaction."""
        super().error_transaction(exc)
        # Marks it as retrieved: who waited for offsets need not come to the commit.
        self._transaction_waiter.exception()

    def fatal_error(self, exc: BaseException) -> None:
        """Fail every caller that waits for this producer, now and later."""
        super().fatal_error(exc)
        for waiter in (self._transaction_waiter, self._pid_waiter):
            if not waiter.done():
                waiter.set_exception(exc)
            # Marks it as retrieved: there may be no transaction that waits for it.
            waiter.exception()

    def maybe_add_partition_to_txn(self, tp: TopicPartition) -> None:
        """Make it part of the transaction; in version 2 the records sent to it do that."""
        if self.protocol < 2:
            super().maybe_add_partition_to_txn(tp)
        else:
            self._txn_partitions.add(tp)

    def announce_partition(self, tp: TopicPartition) -> None:
        """Have an AddPartitionsToTxn request sent for it, which both versions accept."""
        super().maybe_add_partition_to_txn(tp)


class _Client:
    """The producer's client; notes each request of a transaction that had no answer."""

    def __init__(self, client: Any, manager: _Manager) -> None:
        self._client = client
        self._manager = manager

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        """Send a request and wait for its answer. Raises KafkaError."""
        try:
            return await self._client.send(node_id, request, **options)
        except KafkaError:
            self._manager.unanswered = True
            raise
        except RuntimeError as error:
            # uvloop's, for a transport that was closed since the client chose it.
            self._manager.unanswered = True
            raise KafkaConnectionError(str(error)) from error

    async def coordinator_lookup(self, kind: Any, name: str) -> int:
        """The coordinator's node id. Raises KafkaError.

        The sender ends with any error but a few that can pass; all that can are one of those here.
        """
        try:
            node_id: int = await self._client.coordinator_lookup(kind, name)
        except KafkaError as error:
            if error.retriable:
                raise NodeNotReadyError(f"no broker names the coordinator: {error}") from error
            raise
        return node_id


class _Sender(Sender):
    """Sends the requests of either version."""

    def __init__(self, client: Any, *, txn_manager: _Manager, **options: Any) -> None:
        super().__init__(_Client(client, txn_manager), txn_manager=txn_manager, **options)

    def _coordinator_dead(self, coordinator_type: Any) -> None:
        # What the old coordinator answered last is not what the new one has to know.
        self._txn_manager.unanswered = True
        super()._coordinator_dead(coordinator_type)

    def _fail_all(self, task: Any) -> None:
        super()._fail_all(task)
        # Marks them as retrieved: nobody may wait for a batch to be sent.
        for batches in self._message_accumulator._batches.values():
            for batch in batches:
                if batch._drain_waiter.done():
                    batch._drain_waiter.exception()

    async def _do_init_pid(self, node_id: int) -> Any:
        manager = self._txn_manager
        if manager.producer_id == NO_PRODUCER_ID:
            return await super()._do_init_pid(node_id)
        if not manager.reinitialising and not await DescribeHandler(self).do(node_id):
            return False
        manager.reinitialising = True
        return await ReinitialiseHandler(self).do(node_id)

    async def _send_produce_req(self, node_id: int, batches: Any) -> None:
        if self._txn_manager.protocol < 2:
            await super()._send_produce_req(node_id, batches)
            return
        await ProduceHandler(self, batches).do(node_id)
        self._in_flight.remove(node_id)
        self._muted_partitions.difference_update(batches)

    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        node_id = await self._find_coordinator(CoordinationType.GROUP, group_id)
        await OffsetsHandler(self, offsets, self._txn_manager.member).do(node_id)

    async def _do_txn_commit(self, commit_result: Any) -> None:
        manager = self._txn_manager
        if manager.protocol < 2:
            try:
                await super()._do_txn_commit(commit_result)
            except InvalidTxnState:
                # Ended by the coordinator, or by the next owner: not as this producer wanted.
                raise ProducerFenced() from None
            return
        await self._message_accumulator.flush_for_commit()
        if manager.is_empty_transaction():
            manager.complete_transaction()
            return
        node_id = await self._find_coordinator(
            CoordinationType.TRANSACTION, manager.transactional_id
        )
        await EndHandler(self, commit_result).do(node_id)
