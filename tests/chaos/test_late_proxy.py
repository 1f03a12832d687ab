"""A proxy that holds back one request, before a broker that writes down what it gets."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka.protocol.api import RequestStruct
from aiokafka.protocol.metadata import MetadataRequest_v1
from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.transaction import (
    AddPartitionsToTxnRequest_v0,
    EndTxnRequest_v0,
    InitProducerIdRequest_v0,
)

from chaos.frames import Api, Request, framed, parse_request, read_frame
from chaos.late_proxy import LOCALHOST, Late, proxies
from chaos.wire import compact
from tests.support.ports import free_port

INIT = InitProducerIdRequest_v0("id", 1000)
ADD = AddPartitionsToTxnRequest_v0("id", 7, 3, [("t", [0])])
PRODUCE = ProduceRequest_v7("id", -1, 1000, [("t", [(0, b"records")])])
END = EndTxnRequest_v0("id", 7, 3, True)
OF_KIND = {
    Api.INIT_PRODUCER_ID: INIT,
    Api.ADD_PARTITIONS: ADD,
    Api.PRODUCE: PRODUCE,
    Api.END_TXN: END,
}


def encoded(request: RequestStruct, correlation_id: int = 1) -> bytes:
    """The frame as aiokafka sends it."""
    header = request.build_request_header(correlation_id, "client")
    return bytes(header.encode() + request.encode())


@pytest.mark.parametrize("api", OF_KIND)
def test_request_of_aiokafka_is_parsed(api: Api) -> None:
    found = parse_request(encoded(OF_KIND[api], 9))

    producer = (7, 3) if api in (Api.ADD_PARTITIONS, Api.END_TXN) else (-1, -1)
    version = 7 if api == Api.PRODUCE else 0
    assert found == Request(api, version, 9, "client", "id", producer)


@pytest.mark.parametrize(
    ("api", "version", "body"),
    [
        (Api.PRODUCE, 12, b""),
        (Api.END_TXN, 5, struct.pack(">qh?", 7, 3, True) + b"\0"),
        (Api.INIT_PRODUCER_ID, 4, struct.pack(">iqh", 1000, 7, 3) + b"\0"),
        (Api.ADD_PARTITIONS, 3, struct.pack(">qh", 7, 3) + b"\1\0"),
    ],
)
def test_request_of_a_flexible_version_is_parsed(api: Api, version: int, body: bytes) -> None:
    header = struct.pack(">hhih", api, version, 9, 6) + b"client" + b"\0"

    found = parse_request(header + compact("id") + body)

    producer = (-1, -1) if api == Api.PRODUCE else (7, 3)
    assert found == Request(api, version, 9, "client", "id", producer)


class Broker:
    """Answers every request with error 0, and writes down which came on which connection."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[tuple[int, Api]] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        while (frame := await read_frame(reader)) is not None:
            request = parse_request(frame)
            self.seen.append((number, Api(request.api)))
            answer = struct.pack(">iih", request.correlation_id, 0, 0)
            if request.api == Api.METADATA:
                answer += LOCALHOST + struct.pack(">i", self.port)
            writer.write(framed(answer))
        writer.close()

    @property
    def apis(self) -> list[Api]:
        return [api for _, api in self.seen]


class Client:
    """Sends one request after the other, and repeats on a new connection what has no answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: RequestStruct) -> bytes:
        while True:
            if self._ends is None:
                self._ends = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._ends
            writer.write(framed(encoded(request)))
            answer = await asyncio.wait_for(read_frame(reader), 5)
            if answer is not None:
                return answer
            self._ends = None

    async def transaction(self, produced: int = 2) -> None:
        for request in (ADD, *[PRODUCE] * produced, END):
            await self.ask(request)

    def close(self) -> None:
        if self._ends is not None:
            self._ends[1].close()


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Broker, Late, Client]]:
    broker, late = Broker(), Late()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    [proxy] = proxies([broker.port], [free_port()], late)
    await proxy.start()
    client = Client(proxy.port)
    try:
        yield broker, late, client
    finally:
        client.close()
        await proxy.close()
        server.close()


WHOLE = [Api.ADD_PARTITIONS, Api.PRODUCE, Api.PRODUCE, Api.END_TXN]


async def test_broker_addresses_become_those_of_their_proxies() -> None:
    async with proxied() as (broker, _, client):
        answer = await client.ask(MetadataRequest_v1([]))

        [port] = struct.unpack(">i", answer[-4:])
        assert port == client._port != broker.port


@pytest.mark.parametrize("api", [Api.ADD_PARTITIONS, Api.PRODUCE, Api.END_TXN])
@pytest.mark.parametrize("after", [1, 3])
async def test_held_request_arrives_after_first_produce_of_later_transaction(
    api: Api, after: int
) -> None:
    async with proxied() as (broker, late, client):
        await client.transaction()
        late.arm(api, after)
        for _ in range(after):
            await client.transaction()
        assert late.held is not None
        assert not late.held.delivered

        await client.transaction()

        assert broker.apis == [*WHOLE * (after + 1), *WHOLE[:2], api, *WHOLE[2:]]
        assert late.held.delivered
        assert (late.held.after_produced, late.held.spoken) == (1, 1)
        # The repetition is on another connection than the held one was, and so is the late one.
        assert len({number for number, _ in broker.seen}) == 3


async def test_held_request_arrives_before_end_when_there_is_one_produce() -> None:
    async with proxied() as (broker, late, client):
        late.arm(Api.END_TXN, 1)
        await client.transaction(1)
        await client.transaction(1)

        one = [Api.ADD_PARTITIONS, Api.PRODUCE, Api.END_TXN]
        assert broker.apis == [*one, *one[:2], Api.END_TXN, Api.END_TXN]


async def test_held_start_of_a_producer_arrives_in_its_first_transaction() -> None:
    async with proxied() as (broker, late, client):
        late.arm(Api.INIT_PRODUCER_ID, 1)
        await client.ask(INIT)
        # The end of a transaction without records, as a new owner has one, does not count.
        await client.ask(ADD)
        await client.ask(END)
        await client.transaction()

        start = [Api.INIT_PRODUCER_ID, Api.ADD_PARTITIONS, Api.END_TXN]
        assert broker.apis == [*start, *WHOLE[:2], Api.INIT_PRODUCER_ID, *WHOLE[2:]]
        assert late.held is not None
        assert late.held.error == 0


async def test_armed_proxy_holds_one_request_only() -> None:
    async with proxied() as (broker, late, client):
        late.arm(Api.END_TXN, 10)
        for _ in range(3):
            await client.transaction()

        assert broker.apis == WHOLE * 3
        assert late.ended == 3
        assert broker.connections == 2
