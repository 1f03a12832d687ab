"""The proxy between a worker and its broker, in front of a server that echoes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chaos.proxy import Proxy
from tests.support.ports import free_port

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def proxied() -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(free_port(), server.sockets[0].getsockname()[1])
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
        server.close()


async def connected(proxy: Proxy) -> Ends:
    ends = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await said(ends, b"hello") == b"hello"
    return ends


async def said(ends: Ends, data: bytes, seconds: float = 2.0) -> bytes:
    reader, writer = ends
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), seconds)


async def test_bytes_pass_both_ways() -> None:
    async with proxied() as proxy:
        ends = await connected(proxy)
        data = bytes(range(256)) * 4_000

        assert await said(ends, data) == data
        assert proxy.affected == 0


async def test_a_blackhole_passes_nothing_until_it_is_healed() -> None:
    async with proxied() as proxy:
        ends = await connected(proxy)
        proxy.blackhole()

        with pytest.raises(TimeoutError):
            await said(ends, b"lost?", 0.2)
        new_reader, new_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        new_writer.write(b"new")
        await asyncio.sleep(0.1)
        assert proxy.affected == 2

        proxy.heal()
        assert await asyncio.wait_for(ends[0].readexactly(5), 2) == b"lost?"
        assert await asyncio.wait_for(new_reader.readexactly(3), 2) == b"new"


async def test_a_reset_cuts_every_connection_and_takes_new_ones() -> None:
    async with proxied() as proxy:
        both = [await connected(proxy), await connected(proxy)]

        assert proxy.reset() == 2

        for reader, _ in both:
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.readexactly(1), 2)
        await connected(proxy)


async def test_a_delay_takes_its_time_each_way_and_keeps_the_order() -> None:
    async with proxied() as proxy:
        ends = await connected(proxy)
        proxy.delay(0.1)
        began = time.monotonic()

        assert await said(ends, b"12345678") == b"12345678"

        assert 0.2 <= time.monotonic() - began < 1.0
        assert proxy.affected >= 2


async def test_a_throttle_passes_so_much_a_second() -> None:
    async with proxied() as proxy:
        ends = await connected(proxy)
        proxy.throttle(10_000)
        began = time.monotonic()

        await said(ends, b"x" * 3_000)

        assert 0.25 <= time.monotonic() - began < 1.5


async def test_a_half_open_connection_is_silent_and_told_when_it_is_healed() -> None:
    async with proxied() as proxy:
        reader, writer = await connected(proxy)
        proxy.half_open()

        with pytest.raises(TimeoutError):
            await said((reader, writer), b"anyone?", 0.2)
        await connected(proxy)
        assert proxy.affected == 1

        proxy.heal()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readexactly(1), 2)


async def test_an_upstream_that_is_down_refuses() -> None:
    proxy = Proxy(free_port(), free_port())
    await proxy.start()
    reader, _ = await asyncio.open_connection("127.0.0.1", proxy.port)

    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 2)
    await proxy.close()
