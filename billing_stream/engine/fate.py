"""What became of a transactional id's last transaction, as its coordinator knows.

aiokafka does not have the request; it is told here in its own terms, and sent by its client,
so that servers and security are those of every other connection.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

API_KEY = 65
NOT_KNOWN = 105
SECONDS_MAX = 20.0
RETRY_SECONDS = 0.1

COMMITTED = frozenset({"PrepareCommit", "CompleteCommit"})
ABORTED = frozenset({"PrepareAbort", "CompleteAbort", "Ongoing", "PrepareEpochFence"})


class DescribeTransactionsResponse_v0(Response):
    """The state of each id."""

    API_KEY = API_KEY
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "states",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", CompactString("utf-8")),
                ("state", CompactString("utf-8")),
                ("timeout_ms", Int32),
                ("start_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString("utf-8")),
                        ("partitions", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class DescribeTransactionsRequest_v0(RequestStruct):
    """Asks for ids."""

    API_KEY = API_KEY
    API_VERSION = 0
    RESPONSE_TYPE = DescribeTransactionsResponse_v0
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("transactional_ids", CompactArray(CompactString("utf-8"))),
        ("tags", TaggedFields),
    )


class DescribeTransactionsRequest(Request[DescribeTransactionsRequest_v0]):
    """Asks for ids, in whatever version the broker knows."""

    API_KEY = API_KEY
    ALLOW_UNKNOWN_API_VERSION = True

    def __init__(self, transactional_ids: Sequence[str]) -> None:
        self._ids = list(transactional_ids)

    def build(self, request_struct_class: Any) -> Any:
        """The request itself."""
        return request_struct_class(self._ids, {})


async def last_states(
    options: Mapping[str, Any], transactional_ids: Sequence[str]
) -> dict[str, str]:
    """The state of each id that its coordinator knows; those never used are left out.

    Raises KafkaError when there is no answer in time.
    """
    client = AIOKafkaClient(**options)
    await client.bootstrap()
    try:
        found = {}
        async with asyncio.timeout(SECONDS_MAX):
            for transactional_id in transactional_ids:
                state = await _state(client, transactional_id)
                if state is not None:
                    found[transactional_id] = state
        return found
    except TimeoutError:
        raise KafkaError("no coordinator says what became of the last transaction") from None
    finally:
        await client.close()


async def _state(client: Any, transactional_id: str) -> str | None:
    while True:
        try:
            node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
            answer = await client.send(node, DescribeTransactionsRequest([transactional_id]))
            code, _, state, *_ = answer.states[0]
            if code == 0:
                return str(state)
            if code == NOT_KNOWN:
                return None
            raise for_code(code)(transactional_id)
        except KafkaError as error:
            # A broker that starts knows no coordinator, or loads it: asked again.
            if not error.retriable:
                raise
        await asyncio.sleep(RETRY_SECONDS)
