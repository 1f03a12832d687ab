"""The health check of the image."""

import asyncio
import sys

import pytest
from aiohttp import web

from tests.support.ports import free_port


async def probe(port: int, path: str, timeout: str = "5") -> int | None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "billing_stream.observability.probe", path),
        *("--port", str(port), "--timeout", timeout),
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
async def test_only_an_answer_of_200_is_good(status: int, code: int) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status if request.path == "/ready" else 404)

    port = free_port()
    server = web.Server(answer)
    runner = web.ServerRunner(server)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        assert await probe(port, "ready") == code
        assert await probe(port, "health") == 1
    finally:
        await runner.cleanup()


async def test_no_answer_is_bad() -> None:
    assert await probe(free_port(), "ready") == 1


async def test_a_server_that_says_nothing_is_bad() -> None:
    silent = await asyncio.start_server(lambda r, w: asyncio.sleep(30), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    assert await probe(port, "ready", timeout="0.5") == 1
    silent.close()
