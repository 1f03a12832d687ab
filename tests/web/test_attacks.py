"""Bytes that no client of ours would send."""

import asyncio
import gzip
import json
import logging

import pytest
from aiohttp import BytesPayload

from tests.support.nodes import Cluster, Node, get
from tests.support.tokens import client_headers, client_token
from tests.web.conftest import M1, M2

SHOP = "one.example"


async def raw(node: Node, request: bytes) -> bytes:
    """Send bytes and read until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(request)
    async with asyncio.timeout(5):
        await writer.drain()
        answer = await reader.read()
    writer.close()
    return answer


def request_bytes(target: bytes, *lines: bytes, method: bytes = b"GET") -> bytes:
    """A request of a good client, with this target and these further header lines."""
    good = [f"{name}: {value}".encode() for name, value in client_headers(SHOP).items()]
    head = [b"%s %s HTTP/1.1" % (method, target), b"Host: x", b"Connection: close", *good, *lines]
    return b"\r\n".join(head) + b"\r\n\r\n"


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


TARGETS = [
    b"//api/billing",
    b"/api//billing",
    b"/api/./billing",
    b"/api/billing/../billing/x",
    b"/api/billing%2Fpurchases",
    b"/api/billing/purchases/%2e%2e%2f%2e%2e%2finternal",
    b"/api/billing/purchases/%00",
    b"/api/billing/purchases/%0d%0aSet-Cookie:x=1",
    b"/api/billing/purchases/%ff%fe",
    b"/api/billing/purchases/%zz",
    b"/api/billing/purchases/%",
    b"/api/billing/purchases/\xff\xfe",
    b"/api/billing/purchases/" + b"0" * 65,
    b"/api/billing/purchases/" + b"a" * 7000,
    b"/api/billing/purchases/'%20OR%201=1--",
    b"/api/billing/purchases/" + M1.encode() + b";x=1",
    b"/api/billing/purchases/" + M1.encode() + b"/x",
    b"/api/billing/purchases/" + M2.encode() + b"?id=x&merchant_id=" + M1.encode(),
    b"/api/billing/purchases/-",
    b"/internal%2fqueries",
    b"/internal/queries?q=%ff",
    b"/internal/queries",
    b"/.git/config",
    b"*",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_an_odd_path_is_refused_and_does_no_harm(two: Cluster, target: bytes) -> None:
    await two.create(M1, SHOP)

    for node in two.nodes:
        answer = await raw(node, request_bytes(target))

        assert status_of(answer) in (400, 401, 404)
        assert b"Set-Cookie" not in answer
        assert M1.encode() not in answer
        assert (await node.get("/api/billing", SHOP)).status == 200


@pytest.mark.parametrize(
    "query",
    [b"page=%00", b"page=%ff", b"limit=" + b"9" * 6000, b"page=-1", b"page=1%0d%0ax:y", b"page"],
)
async def test_an_odd_page_is_refused(two: Cluster, query: bytes) -> None:
    await two.create(M1, SHOP)

    answer = await raw(two.nodes[0], request_bytes(b"/api/billing/purchases?" + query))

    assert status_of(answer) == 422


@pytest.mark.parametrize(
    "line",
    [
        b"X-Request-ID: a\rSet-Cookie: x=1",
        b"X-Request-ID: a\x00b",
        b"X-Request-ID: " + b"x" * 8300,
        b"X-Request-ID: a\r\n Set-Cookie: x=1",
        b"X-Big: " + b"x" * 100_000,
        b"\r\n".join(b"X-%d: y" % number for number in range(5000)),
        b"Transfer-Encoding: chunked\r\nContent-Length: 3",
        b"Content-Length: -1",
        b"Expect: magic",
        b"not a header",
    ],
)
async def test_odd_headers_get_nothing_back_and_do_no_harm(two: Cluster, line: bytes) -> None:
    await two.create(M1, SHOP)
    node = two.nodes[0]

    answer = await raw(node, request_bytes(b"/api/billing", line))

    head = answer.partition(b"\r\n\r\n")[0]
    assert b"\r\nSet-Cookie" not in head
    assert b"xxxxxxxxxx" not in head
    assert not answer or status_of(answer) < 500
    assert (await node.get("/api/billing", SHOP)).status == 200


@pytest.mark.parametrize("token", [b"eyJ" + b"x" * 9000, b"eyJxxxxxxxxxx\x00"])
async def test_a_token_that_is_no_http_is_not_logged(
    two: Cluster, token: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    answer = await raw(
        two.nodes[0], b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
    )

    assert status_of(answer) == 400
    assert "eyJ" not in caplog.text
    assert "refused input that is not HTTP" in caplog.text
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("method", [b"FOO", b"TRACE", b"CONNECT", b"OPTIONS", b"PATCH"])
async def test_an_odd_method_is_refused(two: Cluster, method: bytes) -> None:
    answer = await raw(two.nodes[0], request_bytes(b"/api/billing", method=method))

    assert status_of(answer) in (400, 404, 405)


@pytest.mark.parametrize("path", ["/webhooks/shopify", "/api/billing/trials"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_a_packed_body_is_not_unpacked(two: Cluster, path: str, encoding: str) -> None:
    """Ten megabytes take ten kilobytes, and would be unpacked before anyone is known."""
    await two.create(M1, SHOP)
    node = two.nodes[0]
    for body in (b"garbage", gzip.compress(b"0" * 10_000_000)):
        headers = client_headers(SHOP, Content_Encoding=encoding, Content_Type="application/json")

        reply = await get(
            node.url, path, headers, method="POST", data=BytesPayload(body), compress=None
        )

        assert reply.status in (400, 401, 422)
        assert (await node.get("/api/billing/trials", SHOP)).data["available"] is True


async def test_of_two_tokens_the_second_gains_nothing(two: Cluster) -> None:
    await two.create(M1, SHOP)
    await two.create(M2, "two.example")
    token = client_token("two.example").encode()
    lines = (b"Authorization: Bearer " + token, b"X-Shop-Domain: two.example")

    answer = await raw(two.nodes[0], request_bytes(b"/api/billing/purchases", *lines))

    assert status_of(answer) in (200, 401, 403)
    if status_of(answer) == 200:
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert M2 not in json.dumps(body)


async def test_a_domain_in_the_platform_does_not_reach_another_shop(two: Cluster) -> None:
    await two.create(M1, "b.example", "shopify:a")

    reply = await two.nodes[0].get("/api/billing", "b.example", X_Shop_Platform="shopify:a")
    split = await two.nodes[0].get("/api/billing", "a:b.example", X_Shop_Platform="shopify")

    # The two would read as one key; neither is the name of a shop.
    assert (reply.status, split.status) == (400, 400)


async def test_a_body_on_a_get_is_ignored(two: Cluster) -> None:
    await two.create(M1, SHOP)
    body = b'{"merchant_id":"' + M2.encode() + b'"}'

    reply = await get(two.nodes[0].url, "/api/billing", client_headers(SHOP), data=body)

    assert reply.status == 200


async def test_many_at_once_are_all_answered(two: Cluster) -> None:
    await two.create(M1, SHOP)
    other = two.other(M1)

    replies = await asyncio.gather(*(other.get("/api/billing", SHOP) for _ in range(100)))

    assert [reply.body for reply in replies if reply.status != 200] == []
