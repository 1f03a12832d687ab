"""A server that speaks as a platform does, and keeps what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import Struct


class Reply(Struct, kw_only=True):
    """What the server says next. `body` is bytes as they are, or anything else as JSON."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = {}
    after_seconds: float = 0.0


class Asked(Struct):
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class FakePlatform:
    """Gives its replies in turn, the last of them for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self._replies: list[Reply] = []

    def replies(self, *replies: Reply) -> None:
        """What is said from now on."""
        self._replies = list(replies)

    async def answer(self, request: web.Request) -> web.Response:
        """Handle any request."""
        body = await request.read()
        self.asked.append(Asked(request.method, request.raw_path, request.headers.copy(), body))
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        await asyncio.sleep(reply.after_seconds)
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        return web.Response(status=reply.status, body=content, headers=reply.headers)


@asynccontextmanager
async def fake_platform() -> AsyncIterator[FakePlatform]:
    """A server on a port of its own."""
    fake = FakePlatform()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.1)
    fake.url = f"http://127.0.0.1:{server.port}"
    try:
        yield fake
    finally:
        await server.close()
