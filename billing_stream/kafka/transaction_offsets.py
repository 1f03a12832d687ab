"""Offsets in a transaction, which the group accepts of a present member only (KIP-447).

They are what fences a worker: the group coordinator checks member and generation in the request
that adds them. Their values are of no use here, positions are rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import BrokerResponseError, InvalidTxnState, ProducerFenced, for_code
from aiokafka.producer.sender import BaseHandler

from billing_stream.kafka.error_classes import ErrorClass, class_of_code
from billing_stream.kafka.transaction_requests import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequest2,
)

# ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS, FENCED_INSTANCE_ID.
_NO_MEMBER = frozenset({22, 25, 27, 82})
# NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE, REQUEST_TIMED_OUT.
_OTHER_COORDINATOR = frozenset({7, 15, 16})


class Member(NamedTuple):
    """A process as a member of a consumer group, in one generation."""

    group: str
    generation: int
    member_id: str


class NotMember(BrokerResponseError):
    """The group has another generation, or does not have this member: nothing is committed."""

    errno = 22
    message = "ILLEGAL_GENERATION"
    description = "the group gave the partitions to other members"


class OffsetsHandler(BaseHandler):
    """Adds the offsets of `member` to the transaction of a sender."""

    group = ConnectionGroup.COORDINATION

    def __init__(self, sender: Any, offsets: Mapping[Any, int], member: Member) -> None:
        super().__init__(sender)
        self._offsets = offsets
        self._member = member

    def create_request(self) -> Any:
        """The request."""
        manager, member = self._sender._txn_manager, self._member
        topics: dict[str, list[Any]] = {}
        for tp, offset in self._offsets.items():
            topics.setdefault(tp.topic, []).append((tp.partition, offset, -1, "", {}))
        kind = TxnOffsetCommitRequest if manager.protocol < 2 else TxnOffsetCommitRequest2
        return kind(
            manager.transactional_id,
            member.group,
            *manager._pid_and_epoch,
            member.generation,
            member.member_id,
            None,
            [(topic, partitions, {}) for topic, partitions in topics.items()],
        )

    def handle_response(self, response: Any) -> Any:
        """None when done, else seconds until the next attempt. Raises KafkaError."""
        codes = [code for _, found, _ in response.topics for _, code, _ in found if code]
        return self._answered(codes)

    def _answered(self, codes: Sequence[int]) -> float | None:
        manager = self._sender._txn_manager
        if not codes:
            manager.offsets_accepted(None)
            return None
        code = codes[0]
        if code in _NO_MEMBER:
            manager.offsets_accepted(NotMember())
            return None
        kind = class_of_code(code)
        if kind is ErrorClass.FENCED or code == InvalidTxnState.errno:
            raise ProducerFenced()
        if kind is not ErrorClass.RETRIABLE:
            manager.offsets_accepted(for_code(code)(self._member.group))
            return None
        if code in _OTHER_COORDINATOR:
            self._sender._coordinator_dead(CoordinationType.GROUP)
        backoff: float = self._default_backoff
        return backoff

    def handle_error(self) -> Any:
        """Seconds until the next attempt, after none was answered."""
        self._sender._coordinator_dead(CoordinationType.GROUP)
        return self._default_backoff
