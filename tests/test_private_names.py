"""All private names of Faust and aiokafka that this service touches, each still where it was.

A release that moves one fails here, by name, and not in a running worker.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiokafka
import faust
import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.message_accumulator import MessageAccumulator, MessageBatch
from aiokafka.producer.sender import (
    AddOffsetsToTxnHandler,
    BaseHandler,
    EndTxnHandler,
    InitPIDHandler,
    Sender,
    SendProduceReqHandler,
)
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.api import Request
from faust.assignor.partition_assignor import PartitionAssignor
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.web.drivers.aiohttp import Web

from tests.support.parsed import parsed

ROOT = Path(__file__).parents[1] / "billing_stream"
# Of the standard library: no release moves them unnoticed.
USUAL = {"_asdict", "_current_frames", "_exit", "_replace"}
NAMES: dict[Any, str] = {
    # The transaction protocol.
    aiokafka.AIOKafkaProducer: "client _message_accumulator _sender _txn_manager",
    MessageAccumulator: "_batch_ttl _batches _txn_manager flush_for_commit",
    MessageBatch: "_drain_waiter",
    Sender: "_acks _coordinator_dead _do_init_pid _do_txn_commit _do_txn_offset_commit _fail_all "
    "_find_coordinator _in_flight _message_accumulator _muted_partitions _request_timeout_ms "
    "_send_produce_req _txn_manager client",
    TransactionManager: "_pending_txn_offsets _pid_and_epoch _pid_waiter _sequence_numbers "
    "_transaction_waiter _txn_partitions add_offsets_to_txn begin_transaction "
    "complete_transaction consumer_group_added error_transaction fatal_error has_pid "
    "is_empty_transaction is_fatal_error maybe_add_partition_to_txn partitions_to_add "
    "set_pid_and_epoch state",
    BaseHandler: "_default_backoff _sender create_request do group handle_error handle_response",
    AddOffsetsToTxnHandler: "do",
    EndTxnHandler: "_commit_result _sender create_request handle_response",
    InitPIDHandler: "_sender create_request handle_response",
    SendProduceReqHandler: "_batches _sender _to_reenqueue create_request handle_response",
    # The membership of the group.
    aiokafka.AIOKafkaConsumer: "_client _coordinator _max_poll_records",
    # Requests that it does not have.
    Request: "_CLASSES",
    # Records that its parser refuses, and batches that it unpacks whatever their size.
    fetcher: "MemoryRecords PartitionRecords",
    # Partitions that are assigned and not read.
    fetcher.Fetcher: "_get_actions_per_node",
    # Brokers that do not answer.
    AIOKafkaClient: "_bootstrap_servers _conns _get_conn _metadata_update bootstrap "
    "get_random_node send",
    AIOKafkaConnection: "_last_action _requests",
    GroupCoordinator: "_client _closing _coordination_task _do_heartbeat _do_rejoin_group "
    "_group_instance_id _maybe_leave_group _push_error_to_user _send_req _session_timeout_ms "
    "coordinator_dead",
    # What takes the place of Faust's transport, recovery and tables.
    AIOKafkaConsumerThread: "_consumer _create_worker_consumer _ensure_consumer _fetch_records "
    "_gather_remaining_tasks _serve",
    Consumer: "_drain_messages _get_active_partitions _new_consumer_thread _thread _to_message",
    Recovery: "_generation_id _is_changelog_tp _restart_recovery _set_recovery_ended "
    "_set_recovery_started _stopped",
    PartitionAssignor: "_get_client_metadata _get_copartitioned_groups _protocol_assignments",
    TableManager: "_recovery _update_channels",
    faust.App: "_fetcher",
    faust.Table: "_new_store",
    faust.Worker: "_schedule_shutdown",
    Web: "_runner",
    web.AppRunner: "_make_server _shutdown_timeout",
    web.Server: "_kwargs _loop",
    RequestHandler: "_current_request _loop _messages _request_count",
}


def names() -> Iterator[Any]:
    for owner, text in NAMES.items():
        for name in text.split():
            yield pytest.param(owner, name, id=f"{owner.__name__}.{name}")


@pytest.mark.parametrize(("owner", "name"), names())
def test_library_still_has_the_name(owner: type[Any], name: str) -> None:
    def sets(kind: type[Any]) -> bool:
        # Of the module: that of a class would be parsed for it, which CPython 3.11 can break off.
        return f"self.{name}" in inspect.getsource(sys.modules[kind.__module__])

    libraries = ("aiohttp", "aiokafka", "faust", "mode")
    of = getattr(owner, "__mro__", ())
    kinds = [kind for kind in of if kind.__module__.split(".")[0] in libraries]
    assert hasattr(owner, name) or any(sets(kind) for kind in kinds)


def test_no_other_private_name_is_touched() -> None:
    listed = {name for text in NAMES.values() for name in text.split()}
    found = set()
    for path in [*ROOT.rglob("*.py"), *(ROOT.parent / "web").rglob("*.py")]:
        tree = parsed(path)
        ours = set(_defined(tree))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
                continue
            if not node.attr.startswith("__") and node.attr not in ours | USUAL:
                found.add((str(path.relative_to(ROOT.parent)), node.attr))
    others = {(path, name) for path, name in found if name not in listed}
    # Inherited names of our own.
    assert others <= {
        *(("billing_stream/observability/tracing/traced_stage.py", n) for n in OF_A_STAGE),
        *(("billing_stream/engine/lane.py", n) for n in OF_A_COMMITTER),
    }
    touching = {path for path, name in found if name in listed}
    assert {path.split("/")[1] for path in touching} <= {
        # Of web/.
        "limits.py",
        "engine",
        "faust_adapter",
        "kafka",
        "projector",
    }


OF_A_STAGE = ("_out", "_processor")
OF_A_COMMITTER = [
    "_batches",
    "_clock",
    "_due",
    "_idle",
    "_open",
    "_records_waiting",
    "_requests",
    "_room",
    "_run",
    "_task",
    "_time",
    "_under_way",
    "_wake",
]


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Attribute(value=ast.Name(id="self"), ctx=ast.Store()):
                yield node.attr
            case ast.AnnAssign(target=ast.Name() as target):
                yield target.id
            case ast.Assign():
                yield from (one.id for one in node.targets if isinstance(one, ast.Name))
