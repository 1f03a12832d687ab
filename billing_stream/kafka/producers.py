"""Makes producers of transactions."""

from collections.abc import Mapping
from typing import Any

from billing_stream.kafka.transaction_protocol import TransactionalProducer
from billing_stream.kafka.transaction_state import REQUEST_TIMEOUT_MS

# How long a transaction may stay open, as in Kafka's own clients. It must outlast the failover
# to another broker (9 s until it is noticed, and an election); the next owner ends an open
# transaction at once, and without one readers wait for so long.
TRANSACTION_TIMEOUT_MS = 60_000
# Above the largest dead letter: the whole of the largest record, in base64.
REQUEST_BYTES_MAX = 8 << 20


def new_producer(
    options: Mapping[str, Any],
    transactional_id: str,
    *,
    transaction_timeout_ms: int = TRANSACTION_TIMEOUT_MS,
    **more: Any,
) -> TransactionalProducer:
    """A producer of transactions under this id, not started. `more` goes to aiokafka."""
    return TransactionalProducer(
        **options,
        transactional_id=transactional_id,
        transaction_timeout_ms=transaction_timeout_ms,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        retry_backoff_ms=10,
        max_request_size=REQUEST_BYTES_MAX,
        **more,
    )
