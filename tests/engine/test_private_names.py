"""The private names of aiokafka that the transaction protocol rests on.

A release of aiokafka that changes one of them fails here, by name, and not in a transaction.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import MessageBatch
from aiokafka.producer.sender import EndTxnHandler, InitPIDHandler, SendProduceReqHandler

NAMES = {
    "producer": ["client", "_txn_manager", "_message_accumulator", "_sender"],
    "accumulator": ["_batches", "_txn_manager", "flush_for_commit"],
    "batch": ["_drain_waiter"],
    "sender": [
        "client",
        "_acks",
        "_coordinator_dead",
        "_do_init_pid",
        "_do_txn_commit",
        "_fail_all",
        "_find_coordinator",
        "_in_flight",
        "_message_accumulator",
        "_muted_partitions",
        "_request_timeout_ms",
        "_send_produce_req",
        "_txn_manager",
    ],
    "manager": [
        "_pid_and_epoch",
        "_pid_waiter",
        "_sequence_numbers",
        "_transaction_waiter",
        "_txn_partitions",
        "begin_transaction",
        "complete_transaction",
        "fatal_error",
        "has_pid",
        "is_empty_transaction",
        "is_fatal_error",
        "maybe_add_partition_to_txn",
        "partitions_to_add",
        "set_pid_and_epoch",
        "state",
    ],
    "end": ["_commit_result", "_sender", "create_request", "handle_response"],
    "init": ["_sender", "create_request", "handle_response"],
    "produce": ["_batches", "_sender", "_to_reenqueue", "create_request", "handle_response"],
}


@pytest_asyncio.fixture
async def parts() -> AsyncIterator[dict[str, Any]]:
    """What a producer of aiokafka is made of; it is not started."""
    producer: Any = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", transactional_id="id")
    sender = producer._sender
    yield {
        "producer": producer,
        "accumulator": producer._message_accumulator,
        "batch": MessageBatch(TopicPartition("topic", 0), producer.create_batch(), 1.0, 0),
        "sender": sender,
        "manager": producer._txn_manager,
        "end": EndTxnHandler(sender, True),
        "init": InitPIDHandler(sender),
        "produce": SendProduceReqHandler(sender, {}),
    }
    await producer.stop()


@pytest.mark.parametrize(("part", "name"), [(part, n) for part in NAMES for n in NAMES[part]])
async def test_aiokafka_still_has_the_name(parts: dict[str, Any], part: str, name: str) -> None:
    assert hasattr(parts[part], name), f"aiokafka's {type(parts[part]).__name__} has no {name}"
