"""What became of a transactional id's last transaction, as its coordinator knows."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, for_code

from billing_stream.engine.transaction_requests import DescribeTransactionsRequest

NOT_KNOWN = 105
# Through the failover of a broker: a process that ended before would only begin again.
SECONDS_MAX = 60.0
# Of one request. Below the group's session (8 s), so that one to a broker that hangs is given
# up, and its new leader asked, while this worker still owns its partitions.
REQUEST_TIMEOUT_MS = 6_000
RETRY_SECONDS = 0.1

COMMITTED = frozenset({"PrepareCommit", "CompleteCommit"})
ABORTED = frozenset({"PrepareAbort", "CompleteAbort", "Ongoing", "PrepareEpochFence"})


async def last_states(
    options: Mapping[str, Any], transactional_ids: Sequence[str]
) -> dict[str, str]:
    """The state of each id that its coordinator knows; those never used are left out.

    Raises KafkaError when there is no answer in time.
    """
    client = AIOKafkaClient(**options, request_timeout_ms=REQUEST_TIMEOUT_MS)
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
