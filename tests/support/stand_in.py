"""A stand-in for a broker: speaks Kafka's protocol, and answers a request with any error code."""

import asyncio
import struct
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from itertools import cycle, repeat
from typing import Any

from aiokafka.protocol import admin, coordination, fetch, group, metadata, offset, produce
from aiokafka.protocol import transaction as txn
from aiokafka.protocol.api import RequestHeader_v1, RequestHeader_v2, ResponseHeader_v1
from aiokafka.protocol.types import Array, Boolean, Bytes, Schema, String, TaggedFields

from billing_stream.kafka import log_requests, transaction_requests, transaction_state
from billing_stream.kafka.log_requests import NO_ID, UUID_BYTES, Uuid
from billing_stream.kafka.transaction_requests import DescribeTransactionsRequest

NODE, MEMBER, PRODUCER = 1, "member", 7
TOPIC_ID = b"\1" * UUID_BYTES
LATEST = -1
# In the place of an error code: the broker closes the connection, or does not answer on it.
CLOSED, SILENT = 1000, 1001
SILENCE = b""
_KINDS: list[type[Any]] = [
    admin.ApiVersionRequest,
    metadata.MetadataRequest,
    log_requests.MetadataRequest,
    coordination.FindCoordinatorRequest,
    DescribeTransactionsRequest,
    txn.InitProducerIdRequest,
    transaction_requests.InitProducerIdRequest,
    txn.AddPartitionsToTxnRequest,
    txn.AddOffsetsToTxnRequest,
    transaction_requests.TxnOffsetCommitRequest,
    transaction_requests.ListTransactionsRequest,
    transaction_requests.DescribeProducersRequest,
    txn.EndTxnRequest,
    produce.ProduceRequest,
    fetch.FetchRequest,
    offset.OffsetRequest,
    group.JoinGroupRequest,
    group.SyncGroupRequest,
    group.HeartbeatRequest,
    group.LeaveGroupRequest,
]
_REQUESTS: Mapping[int, list[type[Any]]] = {
    key: [kind for kind in _KINDS if key == kind.API_KEY] for key in {k.API_KEY for k in _KINDS}
}
_ASSIGNMENT = struct.pack(">hii", 0, 0, -1)


def name_of(api: int) -> str:
    """The name of a request as Kafka's documentation has it."""
    return {"Offset": "ListOffsets", "ApiVersion": "ApiVersions"}.get(
        short := _REQUESTS[api][0].__name__.removesuffix("Request"), short
    )


class StandIn:
    """One broker, the leader of one partition of each topic and every coordinator.

    `asked` counts requests by name. Of each topic the last batch written can be read. `others`
    are ports of more brokers, by their ids, which it names.
    """

    def __init__(self, topics: list[str]) -> None:
        self.asked: Counter[str] = Counter()
        self.others: dict[int, int] = {}
        self._topics = topics
        self._batches: dict[str, bytes] = {}
        self._codes: defaultdict[str, Any] = defaultdict(lambda: repeat(0))
        # Whether some producer has the transactional ids.
        self._owned = False
        self._server: asyncio.Server
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        """Its bootstrap server."""
        return f"127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port on which it listens."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def fail(self, request: str, code: int, *, times: int | None = 1) -> None:
        """Answer the next `times` requests of this name with an error code; None: all.

        Instead of an answer, CLOSED closes the connection, and SILENT leaves it open.
        """
        codes = deque([code] * (times or 1))
        self._codes[request] = cycle(codes) if times is None else _then_none(codes)

    async def start(self, port: int = 0) -> None:
        """Listen on a port, a free one unless it is given."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def stop(self) -> None:
        """Close all connections."""
        self._server.close()
        for writer in self._connections:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                answer = self._answer(BytesIO(await reader.readexactly(size)))
                if answer is None:
                    break
                if answer is SILENCE:
                    continue
                writer.write(struct.pack(">i", len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    def _answer(self, data: BytesIO) -> bytes | None:
        api, version = struct.unpack(">hh", data.getvalue()[:4])
        kind = next(one for one in _versions(api) if version == one.API_VERSION)
        header = RequestHeader_v2 if kind.FLEXIBLE_VERSION else RequestHeader_v1
        _, _, correlation, *_ = header.SCHEMA.decode(data)
        request, name = kind.decode(data), name_of(api)
        self.asked[name] += 1
        code = next(self._codes[name])
        if code == CLOSED:
            return None
        if code == SILENT:
            return SILENCE
        values = getattr(self, f"_{name.lower()}")(request, code)
        schema = kind.RESPONSE_TYPE.SCHEMA
        head = struct.pack(">i", correlation)
        if kind.FLEXIBLE_VERSION:
            head = ResponseHeader_v1.SCHEMA.encode((correlation, {}))
        return bytes(head + schema.encode(_filled(schema, {"error_code": 0, **values})))

    def _apiversions(self, request: Any, code: int) -> dict[str, Any]:
        versions = {key: [kind.API_VERSION for kind in _versions(key)] for key in _REQUESTS}
        return {
            "api_versions": [
                {"api_key": key, "min_version": min(found), "max_version": max(found)}
                for key, found in versions.items()
            ]
        }

    def _metadata(self, request: Any, code: int) -> dict[str, Any]:
        partition = {"leader": NODE, "replicas": [NODE], "isr": [NODE]}
        brokers = {NODE: self.port, **self.others}
        return {
            "brokers": [
                {"node_id": node, "host": "127.0.0.1", "port": port}
                for node, port in brokers.items()
            ],
            "controller_id": NODE,
            "topics": [
                # Its name is called otherwise in later versions.
                {"topic": name, "name": name, "topic_id": TOPIC_ID, "partitions": [partition]}
                for name in self._topics
            ],
        }

    def _findcoordinator(self, request: Any, code: int) -> dict[str, Any]:
        found = {"coordinator_id": NODE, "host": "127.0.0.1", "port": self.port}
        return {"error_code": code, **({} if code else found)}

    def _describetransactions(self, request: Any, code: int) -> dict[str, Any]:
        if self._owned:
            state = {"error_code": code, "state": "Empty", "producer_id": PRODUCER}
            return {"states": [state]}
        return {"states": [{"error_code": code or transaction_state.NOT_KNOWN}]}

    def _initproducerid(self, request: Any, code: int) -> dict[str, Any]:
        self._owned = self._owned or not code
        return {"error_code": code, "producer_id": PRODUCER}

    def _addpartitionstotxn(self, request: Any, code: int) -> dict[str, Any]:
        return {
            "errors": [
                {
                    "topic": topic,
                    "partition_errors": [{"partition": n, "error_code": code} for n in numbers],
                }
                for topic, numbers in request.topics
            ]
        }

    def _addoffsetstotxn(self, request: Any, code: int) -> dict[str, Any]:
        return {"error_code": code}

    def _txnoffsetcommit(self, request: Any, code: int) -> dict[str, Any]:
        return {
            "topics": [
                {
                    "topic": topic,
                    "partitions": [{"partition": n, "error_code": code} for n, *_ in partitions],
                }
                for topic, partitions, _ in request.topics
            ]
        }

    def _offsetfetch(self, request: Any, code: int) -> dict[str, Any]:
        return {"error_code": code}

    def _listtransactions(self, request: Any, code: int) -> dict[str, Any]:
        return {"error_code": code}

    def _describeproducers(self, request: Any, code: int) -> dict[str, Any]:
        return {
            "topics": [
                {
                    "topic": topic,
                    "partitions": [{"partition": n, "error_code": code} for n in numbers],
                }
                for topic, numbers, _ in request.topics
            ]
        }

    def _endtxn(self, request: Any, code: int) -> dict[str, Any]:
        return {"error_code": code}

    def _produce(self, request: Any, code: int) -> dict[str, Any]:
        if not code:
            self._batches |= {topic: batches for topic, [(_, batches)] in request.topics}
        return {
            "topics": [
                {
                    "topic": topic,
                    "partitions": [{"partition": n, "error_code": code} for n, _ in partitions],
                }
                for topic, partitions in request.topics
            ]
        }

    def _listoffsets(self, request: Any, code: int) -> dict[str, Any]:
        return {
            "topics": [
                {
                    "topic": topic,
                    "partitions": [
                        {
                            "partition": n,
                            "error_code": code,
                            "offset": int(topic in self._batches and timestamp == LATEST),
                        }
                        for n, timestamp in partitions
                    ],
                }
                for topic, partitions in request.topics
            ]
        }

    def _fetch(self, request: Any, code: int) -> dict[str, Any]:
        # From version 9 on the epoch of the leader is before the offset.
        at = 2 if request.API_VERSION >= 9 else 1
        return {
            "topics": [
                {
                    "topics": topic,
                    "partitions": [
                        {
                            "partition": asked[0],
                            "error_code": code,
                            "highwater_offset": 1,
                            "last_stable_offset": 1,
                            "message_set": b""
                            if code or asked[at]
                            else self._batches.get(topic, b""),
                        }
                        for asked in partitions
                    ],
                }
                for topic, partitions in request.topics
            ]
        }

    def _joingroup(self, request: Any, code: int) -> dict[str, Any]:
        protocol = request.group_protocols[0][0]
        return {
            "error_code": code,
            "generation_id": 1,
            "group_protocol": protocol,
            "leader_id": "another",
            "member_id": MEMBER,
        }

    def _syncgroup(self, request: Any, code: int) -> dict[str, Any]:
        return {"error_code": code, "member_assignment": _ASSIGNMENT}

    def _heartbeat(self, request: Any, code: int) -> dict[str, Any]:
        return {"error_code": code}

    def _leavegroup(self, request: Any, code: int) -> dict[str, Any]:
        return {"error_code": code}


def _versions(api: int) -> list[Any]:
    return [version for request in _REQUESTS[api] for version in request._CLASSES]


def _then_none(codes: "deque[int]") -> Any:
    yield from codes
    yield from repeat(0)


def _filled(kind: Any, value: Any) -> Any:
    """A value of a type of the protocol; what is left out is as empty as the type allows."""
    if isinstance(kind, Schema):
        value = value or {}
        pairs = zip(kind.names, kind.fields, strict=True)
        return tuple(_filled(field, value.get(name)) for name, field in pairs)
    if isinstance(kind, Array):
        return [_filled(kind.array_of, one) for one in value or ()]
    if value is not None:
        return value
    if isinstance(kind, String):
        return ""
    if kind is TaggedFields:
        return {}
    if kind is Uuid:
        return NO_ID
    return {Bytes: b"", Boolean: False}.get(kind, 0)


@asynccontextmanager
async def stand_in(*topics: str) -> AsyncIterator[StandIn]:
    """A stand-in that listens; stopped with the block."""
    broker = StandIn(list(topics))
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()
