"""Requests that name the log of a partition: its topic's id (KIP-516) and its leader's epoch.

aiokafka has none of these versions.
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.protocol.types import Boolean, CompactArray, CompactBytes, Int8, Int16, Int32, Int64

from billing_stream.kafka.requests import TEXT, array, request

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
_PARTITIONS = array(
    ("error_code", Int16),
    ("partition", Int32),
    ("leader", Int32),
    ("leader_epoch", Int32),
    ("replicas", _NUMBERS),
    ("in_sync", _NUMBERS),
    ("offline", _NUMBERS),
)
_TOPICS = array(
    ("error_code", Int16),
    ("name", TEXT),
    ("topic_id", Uuid),
    ("is_internal", Boolean),
    ("partitions", _PARTITIONS),
    ("authorized_operations", Int32),
)

# Topics with their ids, partitions with the epochs of their leaders.
MetadataRequest = request(
    "Metadata",
    3,
    10,
    [
        ("topics", array(("topic_id", Uuid), ("name", TEXT))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    ],
    [
        ("throttle_time_ms", Int32),
        ("brokers", array(("node_id", Int32), ("host", TEXT), ("port", Int32), ("rack", TEXT))),
        ("cluster_id", TEXT),
        ("controller_id", Int32),
        ("topics", _TOPICS),
        ("cluster_authorized_operations", Int32),
    ],
)


def metadata_of(topics: list[str]) -> Any:
    """Asks for these topics; one that is missing is not created."""
    return MetadataRequest([(NO_ID, topic, {}) for topic in topics], False, False, False)


_PLACES = array(
    ("partition", Int32),
    ("current_leader_epoch", Int32),
    ("fetch_offset", Int64),
    ("last_fetched_epoch", Int32),
    ("log_start_offset", Int64),
    ("max_bytes", Int32),
)
_FETCHED = array(
    ("partition", Int32),
    ("error_code", Int16),
    ("high_watermark", Int64),
    ("last_stable_offset", Int64),
    ("log_start_offset", Int64),
    ("aborted", array(("producer_id", Int64), ("first_offset", Int64))),
    ("preferred_read_replica", Int32),
    ("records", CompactBytes),
)

# Batches, by topic id and partition; rejected where a log is another one.
FetchRequest = request(
    "Fetch",
    1,
    13,
    [
        ("replica_id", Int32),
        ("max_wait_ms", Int32),
        ("min_bytes", Int32),
        ("max_bytes", Int32),
        ("isolation_level", Int8),
        ("session_id", Int32),
        ("session_epoch", Int32),
        ("topics", array(("topic_id", Uuid), ("partitions", _PLACES))),
        ("forgotten", array(("topic_id", Uuid), ("partitions", _NUMBERS))),
        ("rack_id", TEXT),
    ],
    [
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("session_id", Int32),
        ("topics", array(("topic_id", Uuid), ("partitions", _FETCHED))),
    ],
)


class Place(NamedTuple):
    """From where a fetch reads one log."""

    topic_id: bytes
    partition: int
    leader_epoch: int
    offset: int
    max_bytes: int


class SessionFetch(NamedTuple):
    """What a fetch says of its session; see `fetch_sessions`. By default it is in no session.

    `places`: to be fetched from now on; `forgotten`: not any more.
    """

    places: Sequence[Place]
    forgotten: Sequence[Place] = ()
    session_id: int = 0
    epoch: int = -1


def fetch_from(
    fetch: SessionFetch, *, max_wait_ms: int, min_bytes: int, max_bytes: int, isolation_level: int
) -> Any:
    """Asks for batches of these logs."""
    topics: dict[bytes, list[Any]] = {}
    for topic_id, partition, epoch, offset, size in fetch.places:
        topics.setdefault(topic_id, []).append((partition, epoch, offset, -1, -1, size, {}))
    forgotten: dict[bytes, list[int]] = {}
    for place in fetch.forgotten:
        forgotten.setdefault(place.topic_id, []).append(place.partition)
    limits = -1, max_wait_ms, min_bytes, max_bytes, isolation_level
    session = fetch.session_id, fetch.epoch
    return FetchRequest(*limits, *session, _listed(topics), _listed(forgotten), "")


def _listed(topics: Mapping[bytes, list[Any]]) -> list[Any]:
    return [(topic_id, partitions, {}) for topic_id, partitions in topics.items()]
