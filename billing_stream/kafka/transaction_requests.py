"""The requests of Kafka's transactions, in versions that aiokafka does not have."""

from io import BytesIO
from typing import Any

from aiokafka.protocol.api import ResponseHeader_v0
from aiokafka.protocol.types import Boolean, CompactArray, CompactBytes, Int16, Int32, Int64

from billing_stream.kafka.requests import TEXT, array, request

FEATURE = "transaction.version"
FINALIZED_FEATURES_TAG = 2

_PRODUCER = (("producer_id", Int64), ("producer_epoch", Int16))
_FEATURES = array(("name", TEXT), ("max_level", Int16), ("min_level", Int16))
_OUTCOME = [("throttle_time_ms", Int32), ("error_code", Int16), *_PRODUCER]

# Supported versions of each request and, in a tagged field, the features of the cluster.
ApiVersionsRequest = request(
    "ApiVersions",
    18,
    3,
    [("client_software_name", TEXT), ("client_software_version", TEXT)],
    [
        ("error_code", Int16),
        ("api_versions", array(("key", Int16), ("min_version", Int16), ("max_version", Int16))),
        ("throttle_time_ms", Int32),
    ],
    # The header of this response never has tags, so that every client can read it.
    parse_response_header=lambda _, read_buffer: ResponseHeader_v0.decode(read_buffer),
)

# Asks for the next epoch; rejected unless the current one is as given.
InitProducerIdRequest = request(
    "InitProducerId",
    22,
    3,
    [("transactional_id", TEXT), ("transaction_timeout_ms", Int32), *_PRODUCER],
    _OUTCOME,
)

# Commits or aborts; the answer is the producer id and epoch of the next transaction.
EndTxnRequest = request(
    "EndTxn",
    26,
    5,
    [("transactional_id", TEXT), *_PRODUCER, ("transaction_result", Boolean)],
    _OUTCOME,
)

_PRODUCED = array(
    ("partition", Int32),
    ("error_code", Int16),
    ("offset", Int64),
    ("timestamp", Int64),
    ("log_start_offset", Int64),
    ("record_errors", array(("batch_index", Int32), ("message", TEXT))),
    ("error_message", TEXT),
)
_BATCHES = array(("partition", Int32), ("messages", CompactBytes))

# Record batches; their partitions become part of the transaction.
ProduceRequest = request(
    "Produce",
    0,
    12,
    [
        ("transactional_id", TEXT),
        ("required_acks", Int16),
        ("timeout", Int32),
        ("topics", array(("topic", TEXT), ("partitions", _BATCHES))),
    ],
    [("topics", array(("topic", TEXT), ("partitions", _PRODUCED))), ("throttle_time_ms", Int32)],
)

_STATE = array(
    ("error_code", Int16),
    ("transactional_id", TEXT),
    ("state", TEXT),
    ("timeout_ms", Int32),
    ("start_ms", Int64),
    *_PRODUCER,
    ("topics", array(("topic", TEXT), ("partitions", CompactArray(Int32)))),
)

_CODES = array(("partition", Int32), ("error_code", Int16))
_OFFSETS = array(
    ("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", TEXT)
)


def _offsets_request(version: int) -> type[Any]:
    return request(
        "TxnOffsetCommit",
        28,
        version,
        [
            ("transactional_id", TEXT),
            ("group_id", TEXT),
            *_PRODUCER,
            ("generation_id", Int32),
            ("member_id", TEXT),
            ("group_instance_id", TEXT),
            ("topics", array(("topic", TEXT), ("partitions", _OFFSETS))),
        ],
        [("throttle_time_ms", Int32), ("topics", array(("topic", TEXT), ("partitions", _CODES)))],
    )


# Offsets of a group, of a transaction: accepted of a member of the present generation (KIP-447).
TxnOffsetCommitRequest = _offsets_request(3)
# The same in version 2 of the protocol: the group becomes part of the transaction by it.
TxnOffsetCommitRequest2 = _offsets_request(5)

# The transactional ids of one coordinator, in some states or of some producers; none: of all.
ListTransactionsRequest = request(
    "ListTransactions",
    66,
    0,
    [("states", CompactArray(TEXT)), ("producer_ids", CompactArray(Int64))],
    [
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_states", CompactArray(TEXT)),
        (
            "transactions",
            array(("transactional_id", TEXT), ("producer_id", Int64), ("state", TEXT)),
        ),
    ],
)

_PRODUCERS = array(
    ("producer_id", Int64),
    ("producer_epoch", Int32),
    ("last_sequence", Int32),
    ("last_timestamp", Int64),
    ("coordinator_epoch", Int32),
    ("open_since_offset", Int64),
)

# Who has written to these partitions, and where an open transaction of each begins.
DescribeProducersRequest = request(
    "DescribeProducers",
    61,
    0,
    [("topics", array(("topic", TEXT), ("partitions", CompactArray(Int32))))],
    [
        ("throttle_time_ms", Int32),
        (
            "topics",
            array(
                ("topic", TEXT),
                (
                    "partitions",
                    array(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", TEXT),
                        ("producers", _PRODUCERS),
                    ),
                ),
            ),
        ),
    ],
)

DescribeTransactionsRequest = request(
    "DescribeTransactions",
    65,
    0,
    [("transactional_ids", CompactArray(TEXT))],
    [("throttle_time_ms", Int32), ("states", _STATE)],
)


def finalized_level(response: Any) -> int:
    """The level of FEATURE that an ApiVersions response states; 0 where it is missing."""
    features = response.tags.get(FINALIZED_FEATURES_TAG, b"\x01")
    levels = {name: level for name, level, *_ in _FEATURES.decode(BytesIO(features)) or ()}
    return int(levels.get(FEATURE, 0))
