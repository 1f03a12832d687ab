"""A receiver of webhooks: it verifies and records what it gets, and answers as it is told."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import Struct

from tests.support.projection import until

Answer = Callable[["Received"], Awaitable[web.Response]]


class Received(Struct):
    """One request: the path, the headers in small letters, and the body."""

    path: str
    headers: dict[str, str]
    body: bytes
    event: dict[str, Any]

    @property
    def merchant(self) -> str:
        """Whose event it is."""
        merchant: str = self.event["data"]["merchant_id"]
        return merchant

    @property
    def sequence(self) -> int:
        """Its number among the merchant's events."""
        sequence: int = self.event["sequence"]
        return sequence


async def ok(_: Received) -> web.Response:
    """The usual answer."""
    return web.Response(status=204)


class Receiver:
    """What was received, in order; `answer` can be replaced at any time, for each path."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.answers: dict[str, Answer] = {}
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Record it, and answer."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.path, headers, body, await request.json())
        self.requests.append(received)
        return await self.answers.get(request.path, ok)(received)

    def sequences(self, path: str, merchant: str | None = None) -> list[int]:
        """Numbers of the events that came to a path, in their order, repeats included."""
        found = [one for one in self.requests if one.path == path]
        return [one.sequence for one in found if merchant in (None, one.merchant)]

    async def until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """As `projection.until`, of what is known here."""

        async def asked() -> bool:
            return done()

        await until(asked, seconds, what)


def in_order(sequences: list[int], count: int) -> bool:
    """Whether 1 to `count` came, each for the first time in this order.

    A repeat may come after others, never an event before its predecessor.
    """
    first = list(dict.fromkeys(sequences))
    return first == list(range(1, count + 1))


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a port of its own."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        receiver.url = str(server.make_url("")).rstrip("/")
        yield receiver
