"""Who sends slowly, or nothing, keeps nobody else from being answered: on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from billing_stream.projector.health_server import serving
from billing_stream.web.limits import Connections
from tests.support.nodes import Node, cluster, get
from tests.support.ports import free_port
from tests.support.tokens import client_headers
from tests.web.conftest import M1

SHOP = "one.example"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://app.example/back"}
PLACES = 2
BODIES = 4
CONNECTIONS = 8
PARTITIONS = {0: [0, 1, 2, 3]}


@asynccontextmanager
async def worker(folder: Path, **settings: str) -> AsyncIterator[Node]:
    """A worker with few places, and a merchant."""
    few = {"BILLING_REQUESTS_WAITING_MAX": str(PLACES), **settings}
    few |= {"BILLING_OPEN_PURCHASES_MAX": "9999", "BILLING_REQUESTS_PER_MINUTE": "99999"}
    async with cluster(str(folder), PARTITIONS, **few) as found:
        await found.create(M1, SHOP)
        yield found.nodes[0]


@pytest_asyncio.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Node]:
    """A worker that waits neither for headers nor for bodies for long."""
    quick = {"BILLING_HEADER_TIMEOUT": "400ms", "BILLING_BODY_TIMEOUT": "400ms"}
    async with worker(tmp_path, **quick) as node:
        yield node


@pytest_asyncio.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[Node]:
    """A worker with room for few connections and bodies, which waits for them for long."""
    few = {
        "BILLING_CONNECTIONS_MAX": str(CONNECTIONS),
        "BILLING_BODIES_WAITING_MAX": str(BODIES),
        "BILLING_HEADER_TIMEOUT": "60s",
        "BILLING_BODY_TIMEOUT": "60s",
    }
    async with worker(tmp_path, **few) as node:
        yield node


class Client:
    """A connection of somebody who is in no hurry."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def of(cls, port: int, sent: bytes = b"") -> "Client":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await writer.drain()
        return cls(reader, writer)

    async def trickle(self) -> bytes:
        """Send byte by byte for ever; what comes back until the server closes the connection."""
        answer = asyncio.create_task(self.answer())
        with suppress(ConnectionError):
            while not answer.done():
                self.writer.write(b"x")
                await self.writer.drain()
                await asyncio.wait([answer], timeout=0.02)
        return await answer

    async def answer(self) -> bytes:
        """What comes until the server closes the connection."""
        found = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(20):
                while more := await self.reader.read(4096):
                    found += more
        return found

    async def status(self) -> int:
        """The status of the answer."""
        async with asyncio.timeout(20):
            return int((await self.reader.readline()).split()[1])

    def close(self) -> None:
        self.writer.close()


def head(path: str = "/api/billing/purchases", length: int = 5_000) -> bytes:
    """The headers of a request with a body that is still to come."""
    sent = {**client_headers(SHOP), "Host": "x", "Content-Length": str(length)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode()


def count(node: Node, name: str, reason: str) -> float:
    """A counter of the worker, by its reason."""
    found = node.context.metrics.registry.get_sample_value(name, {"reason": reason})
    return found or 0.0


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - it is the server that changes it
            await asyncio.sleep(0.01)


async def answered(node: Node) -> list[int]:
    """The statuses of ordinary requests, with a body and without."""
    bought = await node.post("/api/billing/purchases", SHOP, BUY)
    return [bought.status, (await node.get("/api/billing", SHOP)).status]


async def test_headers_that_come_byte_by_byte_are_given_up(impatient: Node) -> None:
    slow = [await Client.of(impatient.port, b"GET /api/billing HTTP/1.1\r\nX: ") for _ in range(20)]
    ends = asyncio.gather(*(client.trickle() for client in slow))

    while not ends.done():
        assert await answered(impatient) == [201, 200]

    assert await ends == [b""] * len(slow)
    closed = count(impatient, "billing_http_connections_closed_total", "headers")
    assert closed == len(slow)


async def test_a_second_request_has_as_long_for_its_headers(impatient: Node) -> None:
    client = await Client.of(impatient.port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await client.status() == 200

    client.writer.write(b"GET /health HTTP/1.1\r\nX: ")
    assert b"HTTP/1.1" not in await client.trickle()
    assert count(impatient, "billing_http_connections_closed_total", "headers") == 1


@pytest.mark.parametrize("path", ["/api/billing/purchases", "/webhooks/stripe", "/ops/login"])
async def test_slow_bodies_take_no_places_and_are_given_up(impatient: Node, path: str) -> None:
    slow = [await Client.of(impatient.port, head(path)) for _ in range(10 * PLACES)]
    ends = asyncio.gather(*(client.trickle() for client in slow))

    while not ends.done():
        assert await answered(impatient) == [201, 200]

    assert {answer.split(b" ", 2)[1] for answer in await ends} == {b"400"}
    assert count(impatient, "billing_http_bodies_refused_total", "slow") == len(slow)


async def test_of_too_many_bodies_the_one_that_takes_longest_is_refused(narrow: Node) -> None:
    slow = []
    for _ in range(BODIES):
        slow.append(await Client.of(narrow.port, head()))
        assert await answered(narrow) == [201, 200]

    late = await Client.of(narrow.port, head())

    assert await slow[0].status() == 503
    assert count(narrow, "billing_http_bodies_refused_total", "limit") == 1
    assert await answered(narrow) == [201, 200]
    for client in (*slow, late):
        client.close()


async def test_of_too_many_connections_the_one_that_waits_longest_is_closed(narrow: Node) -> None:
    silent = [await Client.of(narrow.port) for _ in range(CONNECTIONS)]
    await until(lambda: len(narrow.context.connections) == CONNECTIONS)

    assert await answered(narrow) == [201, 200]

    assert await silent[0].answer() == b""
    assert count(narrow, "billing_http_connections_closed_total", "limit") >= 1
    assert not silent[-1].reader.at_eof()


async def test_an_idle_connection_gives_way_only_where_all_had_a_request(narrow: Node) -> None:
    idle = await Client.of(narrow.port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await idle.status() == 200
    silent = [await Client.of(narrow.port) for _ in range(CONNECTIONS + 3)]

    assert await silent[0].answer() == b""
    idle.writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: b"200" in bytes(idle.reader._buffer))  # type: ignore[attr-defined]


async def test_no_connection_with_a_request_is_closed_for_another(tmp_path: Path) -> None:
    few = {"BILLING_CONNECTIONS_MAX": "3", "BILLING_BODY_TIMEOUT": "60s"}
    async with worker(tmp_path, **few) as node:
        busy = [await Client.of(node.port, head(length=1)) for _ in range(3)]
        await until(lambda: all(not one.waits for one in node.context.connections._open))

        assert await (await Client.of(node.port)).answer() == b""

        for client in busy:
            client.writer.write(b"{")
            assert await client.status() == 400


async def test_a_projector_gives_up_slow_headers_and_is_still_read() -> None:
    port, connections = free_port(), Connections(3, 0.3)
    quiet = CollectorRegistry(), tuple, tuple
    async with serving("127.0.0.1", port, connections, *quiet):
        url = f"http://127.0.0.1:{port}"
        slow = [await Client.of(port, b"GET /metrics HTTP/1.1\r\nX: ") for _ in range(6)]
        ends = asyncio.gather(*(client.trickle() for client in slow))

        while not ends.done():
            assert (await get(url, "/health")).status == 200

        assert await ends == [b""] * len(slow)


async def test_a_body_is_not_received_for_a_page_that_is_not_there(narrow: Node) -> None:
    client = await Client.of(narrow.port, head("/nothing"))

    assert await client.status() == 404
