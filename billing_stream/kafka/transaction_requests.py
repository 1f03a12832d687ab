"""Requests of Kafka's transactions that aiokafka does not have, in its own terms.

Its client sends them, so that servers and security are those of every other connection.
"""

from io import BytesIO
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

FEATURE = "transaction.version"
FINALIZED_FEATURES_TAG = 2

TEXT, TAGS = CompactString("utf-8"), ("tags", TaggedFields)
_PRODUCER = (("producer_id", Int64), ("producer_epoch", Int16))

_FEATURES = CompactArray(("name", TEXT), ("max_level", Int16), ("min_level", Int16), TAGS)


class ApiVersionsResponse_v3(Response):
    """Supported API versions and, in a tagged field, the features of the cluster."""

    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "api_versions",
            CompactArray(("api_key", Int16), ("min_version", Int16), ("max_version", Int16), TAGS),
        ),
        ("throttle_time_ms", Int32),
        TAGS,
    )


class ApiVersionsRequest_v3(RequestStruct):
    """Asks a broker for API versions and features."""

    API_KEY = 18
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ApiVersionsResponse_v3
    SCHEMA = Schema(("client_software_name", TEXT), ("client_software_version", TEXT), TAGS)

    def parse_response_header(self, read_buffer: Any) -> Any:
        """The header of this response never has tags, so that every client can read it."""
        return ResponseHeader_v0.decode(read_buffer)


class InitProducerIdResponse_v3(Response):
    """A producer id with its epoch."""

    API_KEY = 22
    API_VERSION = 3
    SCHEMA = Schema(("throttle_time_ms", Int32), ("error_code", Int16), *_PRODUCER, TAGS)


class InitProducerIdRequest_v3(RequestStruct):
    """Asks for the next epoch; rejected unless the current one is as given."""

    API_KEY = 22
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = InitProducerIdResponse_v3
    SCHEMA = Schema(("transactional_id", TEXT), ("transaction_timeout_ms", Int32), *_PRODUCER, TAGS)


class EndTxnResponse_v5(Response):
    """The producer id and epoch of the next transaction."""

    API_KEY = 26
    API_VERSION = 5
    SCHEMA = Schema(("throttle_time_ms", Int32), ("error_code", Int16), *_PRODUCER, TAGS)


class EndTxnRequest_v5(RequestStruct):
    """Commits or aborts."""

    API_KEY = 26
    API_VERSION = 5
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = EndTxnResponse_v5
    SCHEMA = Schema(("transactional_id", TEXT), *_PRODUCER, ("transaction_result", Boolean), TAGS)


_RECORD_ERROR = (("batch_index", Int32), ("message", TEXT), TAGS)
_PRODUCED = (
    ("partition", Int32),
    ("error_code", Int16),
    ("offset", Int64),
    ("timestamp", Int64),
    ("log_start_offset", Int64),
    ("record_errors", CompactArray(*_RECORD_ERROR)),
    ("error_message", TEXT),
    TAGS,
)


class ProduceResponse_v12(Response):
    """An offset or an error for each partition."""

    API_KEY = 0
    API_VERSION = 12
    SCHEMA = Schema(
        ("topics", CompactArray(("topic", TEXT), ("partitions", CompactArray(*_PRODUCED)), TAGS)),
        ("throttle_time_ms", Int32),
        TAGS,
    )


class ProduceRequest_v12(RequestStruct):
    """Record batches; their partitions become part of the transaction."""

    API_KEY = 0
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ProduceResponse_v12
    SCHEMA = Schema(
        ("transactional_id", TEXT),
        ("required_acks", Int16),
        ("timeout", Int32),
        (
            "topics",
            CompactArray(
                ("topic", TEXT),
                (
                    "partitions",
                    CompactArray(("partition", Int32), ("messages", CompactBytes), TAGS),
                ),
                TAGS,
            ),
        ),
        TAGS,
    )


class DescribeTransactionsResponse_v0(Response):
    """The state of each id."""

    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", TEXT),
                ("state", TEXT),
                ("timeout_ms", Int32),
                ("start_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(
                        ("topic", TEXT),
                        ("partitions", CompactArray(Int32)),
                        TAGS,
                    ),
                ),
                TAGS,
            ),
        ),
        TAGS,
    )


class DescribeTransactionsRequest_v0(RequestStruct):
    """Asks for ids."""

    API_KEY = 65
    API_VERSION = 0
    RESPONSE_TYPE = DescribeTransactionsResponse_v0
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("transactional_ids", CompactArray(TEXT)),
        TAGS,
    )


def _set_fields(self: Any, *fields: Any) -> None:
    """All fields of the struct in order, without the last tags."""
    self._fields = fields


def _build(self: Any, request_struct_class: Any) -> Any:
    return request_struct_class(*self._fields, {})


class ApiVersionsRequest(Request[ApiVersionsRequest_v3]):
    """See `ApiVersionsRequest_v3`."""

    API_KEY = 18
    __init__ = _set_fields
    build = _build


class InitProducerIdRequest(Request[InitProducerIdRequest_v3]):
    """See `InitProducerIdRequest_v3`."""

    API_KEY = 22
    __init__ = _set_fields
    build = _build


class EndTxnRequest(Request[EndTxnRequest_v5]):
    """See `EndTxnRequest_v5`."""

    API_KEY = 26
    __init__ = _set_fields
    build = _build


class ProduceRequest(Request[ProduceRequest_v12]):
    """See `ProduceRequest_v12`."""

    API_KEY = 0
    __init__ = _set_fields
    build = _build


class DescribeTransactionsRequest(Request[DescribeTransactionsRequest_v0]):
    """See `DescribeTransactionsRequest_v0`."""

    API_KEY = 65
    __init__ = _set_fields
    build = _build


def finalized_level(response: Any) -> int:
    """The level of FEATURE that an ApiVersions response states; 0 where it is missing."""
    features = response.tags.get(FINALIZED_FEATURES_TAG, b"\x01")
    levels = {name: level for name, level, *_ in _FEATURES.decode(BytesIO(features)) or ()}
    return int(levels.get(FEATURE, 0))
