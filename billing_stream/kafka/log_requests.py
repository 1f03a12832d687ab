"""Requests that name the log of a partition: its topic's id (KIP-516) and its leader's epoch.

aiokafka has none of these versions. Its client sends them, as those of `transaction_requests`.
"""

from base64 import urlsafe_b64encode
from typing import Any, NamedTuple

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
)

from billing_stream.kafka.transaction_requests import TAGS, TEXT

UUID_BYTES = 16
NO_ID = bytes(UUID_BYTES)


class Uuid:
    """A topic's id: 16 bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        """The bytes as they are."""
        return value

    @classmethod
    def decode(cls, data: Any) -> bytes:
        """The next 16 bytes. Raises ValueError when there are fewer."""
        found: bytes = data.read(UUID_BYTES)
        if len(found) != UUID_BYTES:
            raise ValueError("Buffer underrun decoding Uuid")
        return found


def id_text(topic_id: bytes) -> str:
    """A topic's id as Kafka's own tools print it.

    >>> id_text(bytes(16))
    'AAAAAAAAAAAAAAAAAAAAAA'
    """
    return urlsafe_b64encode(topic_id).decode().rstrip("=")


_NUMBERS = CompactArray(Int32)


class MetadataResponse_v10(Response):
    """Topics with their ids, partitions with the epochs of their leaders."""

    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", TEXT), ("port", Int32), ("rack", TEXT), TAGS),
        ),
        ("cluster_id", TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", TEXT),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", _NUMBERS),
                        ("in_sync", _NUMBERS),
                        ("offline", _NUMBERS),
                        TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                TAGS,
            ),
        ),
        ("cluster_authorized_operations", Int32),
        TAGS,
    )


class MetadataRequest_v10(RequestStruct):
    """Asks for topics by name."""

    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponse_v10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", TEXT), TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        TAGS,
    )


class MetadataRequest(Request[MetadataRequest_v10]):
    """Asks for these topics; one that is missing is not created."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: Any) -> Any:
        """The request on the wire."""
        wanted: list[Any] = [(NO_ID, topic, {}) for topic in self._topics]
        return request_struct_class(wanted, False, False, False, {})


class FetchResponse_v13(Response):
    """Batches, by topic id and partition."""

    API_KEY = 1
    API_VERSION = 13
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("session_id", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("high_watermark", Int64),
                        ("last_stable_offset", Int64),
                        ("log_start_offset", Int64),
                        (
                            "aborted",
                            CompactArray(("producer_id", Int64), ("first_offset", Int64), TAGS),
                        ),
                        ("preferred_read_replica", Int32),
                        ("records", CompactBytes),
                        TAGS,
                    ),
                ),
                TAGS,
            ),
        ),
        TAGS,
    )


class FetchRequest_v13(RequestStruct):
    """Asks for batches of logs; rejected where a log is another one."""

    API_KEY = 1
    API_VERSION = 13
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = FetchResponse_v13
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("max_wait_ms", Int32),
        ("min_bytes", Int32),
        ("max_bytes", Int32),
        ("isolation_level", Int8),
        ("session_id", Int32),
        ("session_epoch", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("current_leader_epoch", Int32),
                        ("fetch_offset", Int64),
                        ("last_fetched_epoch", Int32),
                        ("log_start_offset", Int64),
                        ("max_bytes", Int32),
                        TAGS,
                    ),
                ),
                TAGS,
            ),
        ),
        (
            "forgotten",
            CompactArray(("topic_id", Uuid), ("partitions", CompactArray(Int32)), TAGS),
        ),
        ("rack_id", CompactString("utf-8")),
        TAGS,
    )


class Place(NamedTuple):
    """From where a fetch reads one log."""

    topic_id: bytes
    partition: int
    leader_epoch: int
    offset: int
    max_bytes: int


class FetchRequest(Request[FetchRequest_v13]):
    """Asks for batches of these logs, in no session."""

    API_KEY = 1

    def __init__(
        self,
        places: list[Place],
        *,
        max_wait_ms: int,
        min_bytes: int,
        max_bytes: int,
        isolation_level: int,
    ) -> None:
        self._places = places
        self._limits = -1, max_wait_ms, min_bytes, max_bytes, isolation_level

    def build(self, request_struct_class: Any) -> Any:
        """The request on the wire."""
        topics: dict[bytes, list[Any]] = {}
        for topic_id, partition, epoch, offset, size in self._places:
            asked: Any = partition, epoch, offset, -1, -1, size, {}
            topics.setdefault(topic_id, []).append(asked)
        wanted: list[Any] = [(topic_id, partitions, {}) for topic_id, partitions in topics.items()]
        return request_struct_class(*self._limits, 0, -1, wanted, [], "", {})
