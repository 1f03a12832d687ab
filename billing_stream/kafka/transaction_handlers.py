"""Answers to the requests of a transaction, in the versions that aiokafka does not send.

They take the place of handlers of its sender, of which each sends one request.
"""

from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorLoadInProgressError,
    InvalidProducerEpoch,
    InvalidTxnState,
    ProducerFenced,
    UnknownError,
)
from aiokafka.producer.sender import EndTxnHandler, InitPIDHandler, SendProduceReqHandler
from aiokafka.structs import TopicPartition

from billing_stream.kafka.transaction_requests import (
    DescribeTransactionsRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    ProduceRequest,
)

# PRODUCER_FENCED, which aiokafka has no class for, is INVALID_PRODUCER_EPOCH in older versions.
_KNOWN_CODES: Mapping[int, int] = MappingProxyType({90: InvalidProducerEpoch.errno})


class DescribeHandler(InitPIDHandler):
    """Makes sure that the transactional id has no other owner yet.

    InitProducerId is rejected then, but not before it has aborted the other's open transaction.
    """

    def create_request(self) -> Any:
        """The request."""
        return DescribeTransactionsRequest([self._sender._txn_manager.transactional_id])

    def handle_response(self, resp: Any) -> Any:
        """None when done, else seconds until the next attempt. Raises KafkaError."""
        manager = self._sender._txn_manager
        code, _, _, _, _, *owner, _, _ = resp.states[0]
        if code == 0:
            if tuple(owner) != manager._pid_and_epoch:
                raise ProducerFenced()
            return None
        return super().handle_response(SimpleNamespace(error_code=code))


class ReinitialiseHandler(InitPIDHandler):
    """Takes the next epoch of the producer's own id, unless that has another owner."""

    def create_request(self) -> Any:
        """The request."""
        manager = self._sender._txn_manager
        wanted = manager.transactional_id, manager.transaction_timeout_ms
        return InitProducerIdRequest(*wanted, *manager._pid_and_epoch)

    def handle_response(self, resp: Any) -> Any:
        """None when done, else seconds until the next attempt. Raises KafkaError."""
        if _known_code(resp.error_code) == InvalidProducerEpoch.errno:
            raise ProducerFenced()
        return super().handle_response(resp)


class ProduceHandler(SendProduceReqHandler):
    """Records of version 2."""

    def create_request(self) -> Any:
        """The request."""
        topics: dict[str, list[Any]] = {}
        for tp, batch in self._batches.items():
            topics.setdefault(tp.topic, []).append((tp.partition, batch.get_data_buffer(), {}))
        request = ProduceRequest(
            self._sender._txn_manager.transactional_id,
            self._sender._acks,
            self._sender._request_timeout_ms,
            [(topic, partitions, {}) for topic, partitions in topics.items()],
        )
        request.required_acks = self._sender._acks
        return request

    def handle_response(self, response: Any) -> None:
        """Resolve each batch, or queue it for another attempt."""
        # As version 8, the last that aiokafka reads: the same fields without tags.
        topics = []
        for topic, partitions, _ in response.topics:
            known = []
            for number, code, *rest, _ in partitions:
                if code == ConcurrentTransactions.errno:
                    # The broker still writes the markers of this producer's last transaction:
                    # usual, and nothing that aiokafka has to warn of.
                    self._to_reenqueue.append(self._batches[TopicPartition(topic, number)])
                else:
                    known.append((number, _known_code(code), *rest))
            topics.append((topic, known))
        super().handle_response(SimpleNamespace(API_VERSION=8, topics=topics))


class EndHandler(EndTxnHandler):
    """The end of version 2, and the epoch of what follows."""

    def create_request(self) -> Any:
        """The request."""
        manager = self._sender._txn_manager
        producer = manager.transactional_id, *manager._pid_and_epoch
        return EndTxnRequest(*producer, self._commit_result)

    def handle_response(self, resp: Any) -> Any:
        """None when done, else seconds until the next attempt. Raises KafkaError."""
        code = _known_code(resp.error_code)
        if code == UnknownError.errno:
            # Kafka 4.4 fails so while another producer takes the id; asked again, it says that.
            code = CoordinatorLoadInProgressError.errno
        if code == 0:
            self._sender._txn_manager.next_epoch(resp.producer_id, resp.producer_epoch)
        elif code == InvalidTxnState.errno:
            # The coordinator has aborted the transaction itself: it was open for too long.
            raise ProducerFenced()
        return super().handle_response(SimpleNamespace(error_code=code))


def _known_code(code: int) -> int:
    return _KNOWN_CODES.get(code, code)
