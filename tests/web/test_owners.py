"""Which worker is asked, and what is said while nobody knows."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from billing_stream.web import owners
from billing_stream.web.owners import SHOPS_CACHED_MAX, FindShop, ReadMerchant, ShopCache
from tests.support.nodes import Cluster, get
from tests.support.tokens import client_headers, old_worker_headers
from tests.web.conftest import M1, M2

SHOP = "one.example"
NOT_READY = (503, "NOT_READY")


def query_path(query: object) -> str:
    return "/internal/queries?q=" + msgspec.json.encode(query).decode()


async def test_a_worker_that_lost_the_partition_does_not_forward_again(two: Cluster) -> None:
    await two.create(M1, SHOP)
    wrong = two.other(M1)

    reply = await get(wrong.url, query_path(ReadMerchant(M1)), old_worker_headers())

    assert (reply.status, reply.code) == NOT_READY
    assert "Retry-After" in reply.headers


async def test_two_workers_that_each_take_the_other_for_the_owner_give_up(two: Cluster) -> None:
    await two.create(M1, SHOP)
    first, second = two.nodes
    await first.own([])
    await second.own([])
    first.hears({second.url: [0, 1, 2, 3]})
    second.hears({first.url: [0, 1, 2, 3]})

    for node in two.nodes:
        reply = await node.get("/api/billing", SHOP)
        assert (reply.status, reply.code) == NOT_READY


async def test_while_lanes_are_paused_nothing_is_said_to_be_missing(two: Cluster) -> None:
    await two.create(M1, SHOP)
    for node in two.nodes:
        await node.lanes.pause()

    for node in two.nodes:
        for path in ("", "/trials", "/purchases", f"/purchases/{M2}"):
            for shop in (SHOP, "nobody.example"):
                reply = await node.get("/api/billing" + path, shop)
                assert (reply.status, reply.code) == NOT_READY
                assert int(reply.headers["Retry-After"]) > 0


async def test_before_any_assignment_nothing_is_said_to_be_missing(two: Cluster) -> None:
    for node in two.nodes:
        await node.own([])
    two.assign({})

    reply = await two.nodes[0].get("/api/billing", "nobody.example")

    assert (reply.status, reply.code) == NOT_READY


async def test_a_partition_that_is_ours_but_not_restored_yet_is_not_ready(two: Cluster) -> None:
    await two.create(M1, SHOP)
    owner = two.owner(M1)
    owner.context.owners._cache.put(f"shopify:{SHOP}", M1)
    await owner.own([])

    reply = await owner.get("/api/billing", SHOP)

    assert (reply.status, reply.code) == NOT_READY


async def test_a_partition_that_moved_is_asked_at_its_new_owner(two: Cluster) -> None:
    await two.create(M1, SHOP)
    await two.buy(M1, 1)
    await two.nodes[0].own([])
    await two.nodes[1].own([0, 1, 2, 3])
    two.assign({1: [0, 1, 2, 3]})

    for node in two.nodes:
        assert (await node.get("/api/billing", SHOP)).data["credits_purchased"] == 100


async def test_an_owner_that_is_gone_is_not_ready(two: Cluster) -> None:
    await two.create(M1, SHOP)
    asked = two.other(M1)
    asked.context.owners._cache.put(f"shopify:{SHOP}", M1)
    await two.owner(M1).stop()

    reply = await asked.get("/api/billing", SHOP)

    assert (reply.status, reply.code) == NOT_READY


async def test_an_owner_that_is_gone_is_noted_once(
    two: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    await two.create(M1, SHOP)
    asked = two.other(M1)
    asked.context.owners._cache.put(f"shopify:{SHOP}", M1)
    await two.owner(M1).stop()

    for _ in range(5):
        await asked.get("/api/billing", SHOP)

    assert caplog.text.count("does not answer") == 1


@asynccontextmanager
async def impostor(
    two: Cluster, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[None]:
    """In place of the owners of everything: a server that answers like this."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        asked = two.nodes[0]
        await asked.own([])
        asked.hears({str(server.make_url("")).rstrip("/"): [0, 1, 2, 3]})
        yield


@pytest.mark.logs_errors
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"no json"),
        (200, b"[]"),
        (200, b""),
        (401, b"{}"),
        (404, b"{}"),
        (500, b"secret"),
        (302, b""),
        (503, b"{}"),
    ],
)
async def test_an_owner_that_makes_no_sense_is_not_ready_and_never_not_found(
    two: Cluster, status: int, body: bytes
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={"Location": "/elsewhere"})

    async with impostor(two, answer):
        reply = await two.nodes[0].get("/api/billing", SHOP)

    assert (reply.status, reply.code) == NOT_READY
    assert "secret" not in str(reply.body)


async def test_an_owner_that_is_silent_is_not_ready_in_time(
    two: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "FORWARD_SECONDS", 0.2)

    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    async with impostor(two, answer):
        async with asyncio.timeout(2):
            reply = await two.nodes[0].get("/api/billing", SHOP)

    assert (reply.status, reply.code) == NOT_READY


async def test_an_owner_that_speaks_no_http_is_not_ready_and_no_token_is_logged(
    two: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asked = two.nodes[0]
    seen = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(4096))
        writer.write(b"220 smtp here\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asked.own([])
        asked.hears({url: [0, 1, 2, 3]})
        reply = await asked.get("/api/billing", SHOP)

    assert (reply.status, reply.code) == NOT_READY
    token = seen[0].split(b"Bearer ")[1].split(b"\r\n")[0].decode()
    assert token not in caplog.text
    assert "does not answer" in caplog.text


async def test_the_ids_go_along_to_the_owner_and_the_clients_token_does_not(two: Cluster) -> None:
    seen: list[web.BaseRequest] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response({"merchant_id": None})

    async with impostor(two, answer):
        headers = client_headers(SHOP, X_Request_ID="r-1", X_Correlation_ID="c-1")
        reply = await get(two.nodes[0].url, "/api/billing", headers)

    assert reply.code == "MERCHANT_NOT_FOUND"
    sent = seen[0].headers
    assert (sent["X-Request-ID"], sent["X-Correlation-ID"]) == ("r-1", "c-1")
    assert sent["Authorization"] != headers["Authorization"]


async def test_internal_paths_want_an_internal_token(two: Cluster) -> None:
    await two.create(M1, SHOP)
    path = query_path(FindShop(f"shopify:{SHOP}"))

    for headers in ({}, client_headers(SHOP), old_worker_headers("x" * 40)):
        for node in two.nodes:
            reply = await get(node.url, path, headers)
            assert (reply.status, reply.code) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "q", ["", "{}", "[]", '{"query":"drop"}', '{"query":"find_shop"}', "[" * 2000]
)
async def test_an_internal_query_that_is_none_is_refused(two: Cluster, q: str) -> None:
    url = two.nodes[0].url

    reply = await get(url, "/internal/queries", old_worker_headers(), params={"q": q})

    assert (reply.status, reply.code) == (422, "VALIDATION_ERROR")


async def test_a_shop_of_elsewhere_is_asked_for_once(two: Cluster) -> None:
    await two.create(M1, SHOP)
    asked = two.other(f"shopify:{SHOP}")
    await asked.get("/api/billing", SHOP)

    assert asked.context.owners._cache.get(f"shopify:{SHOP}") == M1


async def test_a_shop_that_was_not_found_is_found_as_soon_as_it_is_there(two: Cluster) -> None:
    for node in two.nodes:
        assert (await node.get("/api/billing", SHOP)).status == 404

    await two.create(M1, SHOP)

    for node in two.nodes:
        assert (await node.get("/api/billing", SHOP)).status == 200


def test_the_cache_forgets_after_a_while() -> None:
    now = 100.0
    cache = ShopCache(lambda: now)
    cache.put("a:b", M1)

    assert cache.get("a:b") == M1
    now += 30
    assert cache.get("a:b") is None


def test_the_cache_keeps_so_many_and_the_newest() -> None:
    cache = ShopCache(lambda: 1.0)
    for number in range(SHOPS_CACHED_MAX + 5):
        cache.put(f"s:{number}", M1)

    assert len(cache) == SHOPS_CACHED_MAX
    assert cache.get("s:4") is None
    assert cache.get("s:5") == M1


def test_the_cache_keeps_nothing_that_was_not_found() -> None:
    cache = ShopCache(lambda: 1.0)
    cache.put("a:b", M1)
    cache.put("a:b", None)

    assert cache.get("a:b") is None
    assert len(cache) == 0
