"""What became of a transactional id's last transaction, as its coordinator knows."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import for_code

from billing_stream.kafka.silent_brokers import SilentBrokers
from billing_stream.kafka.start_deadline import StartDeadline, find_coordinator
from billing_stream.kafka.transaction_requests import DescribeTransactionsRequest

NOT_KNOWN = 105
# Of one request. Below the group's session (8 s), so that one to a broker that hangs is given
# up, and its new leader asked, while this worker still owns its partitions.
REQUEST_TIMEOUT_MS = 6_000

COMMITTED = frozenset({"PrepareCommit", "CompleteCommit"})
BEGUN = "Ongoing"
ABORTED = frozenset({"PrepareAbort", "CompleteAbort", BEGUN, "PrepareEpochFence"})


async def last_transaction_states(
    options: Mapping[str, Any],
    transactional_ids: Sequence[str],
    deadline: StartDeadline,
    silent: SilentBrokers,
) -> dict[str, str]:
    """The state of each id that its coordinator knows; those never used are left out.

    Raises KafkaNotReady when there is no answer until the deadline, and KafkaError.
    """
    client = AIOKafkaClient(**options, request_timeout_ms=REQUEST_TIMEOUT_MS)
    silent.avoided_by(client)
    try:
        await deadline.retry("a broker", client.bootstrap)
        found = {}
        for transactional_id in transactional_ids:
            state = await deadline.retry(
                f"the coordinator of transactional id {transactional_id}",
                partial(_state, client, transactional_id),
            )
            if state is not None:
                found[transactional_id] = state
        return found
    finally:
        await client.close()


async def last_started(client: Any, transactional_id: str) -> int | None:
    """When the id's last transaction began, by its coordinator's clock, in ms since the epoch.

    None where there was none. Raises KafkaError.
    """
    found = await described(client, transactional_id)
    return None if found is None or found.start_ms < 0 else found.start_ms


async def _state(client: Any, transactional_id: str) -> str | None:
    found = await described(client, transactional_id)
    return None if found is None else found.state


class Described(NamedTuple):
    """A transactional id at its coordinator; `start_ms` is below 0 without a transaction."""

    state: str
    timeout_ms: int
    start_ms: int
    producer_id: int
    epoch: int


async def described(client: Any, transactional_id: str) -> Described | None:
    """What the coordinator of an id says of it; None where it knows nothing. Raises KafkaError."""
    node = await find_coordinator(client, CoordinationType.TRANSACTION, transactional_id)
    answer = await client.send(node, DescribeTransactionsRequest([transactional_id]))
    code, _, *found = answer.states[0]
    if code == 0:
        return Described(*found[:5])
    if code == NOT_KNOWN:
        return None
    raise for_code(code)(transactional_id)
