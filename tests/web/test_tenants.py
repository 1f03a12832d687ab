"""No merchant reaches what is another's, and no path leads around the checks."""

import asyncio
from pathlib import Path

import pytest

from tests.support.nodes import Cluster, Reply, cluster, get
from tests.support.production import PRODUCTION
from tests.support.tokens import client_headers, operator_headers
from tests.support.worker import CLIENT_SECRET, INTERNAL_SECRET
from tests.web.conftest import M1, M2
from tests.web.test_attacks import raw, request_bytes, status_of

ONE, TWO = "one.example", "two.example"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://one.example/"}


@pytest.fixture
async def both(two: Cluster) -> Cluster:
    """Two merchants."""
    await two.create(M1, ONE)
    await two.create(M2, TWO)
    return two


async def test_anothers_purchase_is_not_found_however_it_is_written(both: Cluster) -> None:
    theirs = await both.buy(M2, 1)

    for written in (theirs, theirs.upper(), f"{theirs}/", theirs.replace("-", "%2d")):
        for node in both.nodes:
            reply = await node.get(f"/api/billing/purchases/{written}", ONE)
            assert reply.status == 404
            assert b"gid://" not in reply.raw


async def test_anothers_idempotency_key_gives_an_answer_of_ones_own(both: Cluster) -> None:
    key = {"Idempotency_Key": "order-1"}
    first = await both.nodes[0].post("/api/billing/purchases", TWO, BUY, **key)
    second = await both.nodes[0].post("/api/billing/purchases", ONE, BUY, **key)

    assert (first.status, second.status) == (201, 201)
    assert first.data["purchase_id"] != second.data["purchase_id"]


@pytest.mark.parametrize("order", [(ONE, TWO), (TWO, ONE)])
async def test_of_two_domains_in_the_headers_none_is_anothers(
    both: Cluster, order: tuple[str, str]
) -> None:
    headers = [item for item in client_headers(ONE).items() if item[0] != "X-Shop-Domain"]
    await both.buy(M2, 1)

    reply = await get(
        both.nodes[0].url,
        "/api/billing/purchases",
        [*headers, *(("X-Shop-Domain", domain) for domain in order)],  # type: ignore[arg-type]
    )

    assert reply.status in (200, 403)
    assert b"gid://" not in reply.raw


@pytest.mark.parametrize(
    "domain", ["two.example.", "two.example\t", "TWO.example", "two.example%00", "one.example,two"]
)
async def test_a_domain_that_is_nearly_anothers_is_forbidden(both: Cluster, domain: str) -> None:
    for path in ("/api/billing", "/api/billing/purchases", "/api/billing/trials"):
        reply = await both.nodes[0].get(path, ONE, X_Shop_Domain=domain)
        assert reply.status in (400, 403)


AROUND = [
    b"/api/../internal/queries",
    b"/api/..%2finternal/queries",
    b"/api/%2e%2e/internal/queries",
    b"/api/billing/..;/..;/internal/queries",
    b"/webhooks/../metrics",
    b"/webhooks/..%2f..%2fmetrics",
    b"/webhooks/%2e%2e/ops",
    b"//internal/queries",
    b"/INTERNAL/queries",
    b"/internal;x=1/queries",
    b"/%69nternal%2fcommands",
    b"http://127.0.0.1/internal/queries",
    b"/ops/static/../../server.py",
    b"/ops/static/..%2f..%2fserver.py",
    b"/ops/static/%2e%2e/session.py",
    b"/ops/static/ops.css%00.py",
]


@pytest.mark.parametrize("target", AROUND)
async def test_no_path_leads_around_the_checks(both: Cluster, target: bytes) -> None:
    answer = await raw(both.nodes[0], request_bytes(target))

    assert status_of(answer) in (400, 401, 404)
    for poison in (b"billing_records_total", b"import ", b"class="):
        assert poison not in answer.partition(b"\r\n\r\n")[2] or status_of(answer) == 404


SMUGGLED = [
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: +7",
    b"Content-Length: 0_7",
    b"Content-Length: 7 7",
    b"Content-Length: 0x7",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 0",
    b"Transfer-Encoding: xchunked\r\nContent-Length: 0",
    b"Transfer-Encoding: chunked, identity",
    b"X: a\r\n\tb: c",
    b"X: a\nY: b",
    b"X: a\x00b",
    b"X: a\rb",
    b"\x00: x",
    b": x",
    b"X\x0b: x",
]


@pytest.mark.parametrize("line", SMUGGLED)
async def test_a_request_that_two_servers_read_differently_is_alone(
    both: Cluster, line: bytes
) -> None:
    """What follows it on the connection is not answered as a request of its own with data."""
    head = request_bytes(b"/api/billing/trials", line, method=b"POST").replace(
        b"Connection: close\r\n", b""
    )
    second = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    answer = await raw(both.nodes[0], head + b"0\r\n\r\n" + second)

    assert status_of(answer) == 400
    assert b"billing_records_total" not in answer
    assert (await both.nodes[0].get("/api/billing/trials", ONE)).data["available"] is True


@pytest.mark.parametrize("size", [b"-1", b"+5", b"0x5", b"5_0", b" 5", b"fffffffffffffffff", b"g"])
async def test_a_chunk_of_an_odd_size_is_refused(both: Cluster, size: bytes) -> None:
    head = request_bytes(b"/api/billing/trials", b"Transfer-Encoding: chunked", method=b"POST")

    answer = await raw(both.nodes[0], head + size + b"\r\nhello\r\n0\r\n\r\n")

    assert status_of(answer) in (400, 413)
    assert (await both.nodes[0].get("/api/billing/trials", ONE)).data["available"] is True


async def test_no_other_protocol_is_spoken(both: Cluster) -> None:
    upgrade = (b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__", b"Connection: Upgrade")

    answer = await raw(both.nodes[0], request_bytes(b"/api/billing", *upgrade))
    preface = await raw(both.nodes[0], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

    assert status_of(answer) in (200, 400)
    assert b"101 Switching" not in answer
    assert status_of(preface) in (400, 404, 405, 505)


async def test_in_production_there_are_no_pages_for_tests(tmp_path: Path) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, **PRODUCTION) as found:
        url = found.nodes[0].url
        token = operator_headers(secret=PRODUCTION["INTERNAL_JWT_SECRET"])
        for path in ("/internal/clock", "/dev/checkout/x", "/tables", "/graph", "/router"):
            for method in ("GET", "POST"):
                reply = await get(url, path, token, method=method, json={})
                assert reply.status == 404, path


async def many(two: Cluster, count: int, path: str, body: dict[str, object]) -> list[Reply]:
    """The same request of an operator that often at once, at both workers in turn."""
    return await asyncio.gather(
        *(
            get(two.nodes[n % 2].url, path, operator_headers(), method="POST", json=body)
            for n in range(count)
        )
    )


async def test_one_adjustment_sent_at_once_is_made_once(both: Cluster) -> None:
    body = {"merchant_id": M1, "credits": 10, "reason": "r", "idempotency_key": "k"}

    replies = await many(both, 40, "/internal/adjustments", body)

    assert {reply.status for reply in replies} == {201}
    assert len({reply.data["adjustment_id"] for reply in replies}) == 1
    assert len(both.events("credits.adjusted")) == 1


async def test_credits_are_not_taken_twice_by_requests_at_once(both: Cluster) -> None:
    await both.buy(M1, 1)
    headers, path = operator_headers(), "/internal/adjustments"

    replies = await asyncio.gather(
        *(
            get(
                both.nodes[number % 2].url,
                path,
                headers,
                method="POST",
                json={
                    "merchant_id": M1,
                    "credits": -30,
                    "reason": "r",
                    "idempotency_key": f"k{number}",
                },
            )
            for number in range(20)
        )
    )

    assert sorted(reply.status for reply in replies) == [201] * 3 + [409] * 17
    assert sum(event["credits"] for event in both.events("credits.adjusted")) == -90


async def test_of_many_trials_at_once_one_is_started(both: Cluster) -> None:
    replies = await asyncio.gather(
        *(both.nodes[n % 2].post("/api/billing/trials", ONE) for n in range(30))
    )

    assert sorted(reply.status for reply in replies) == [201] + [409] * 29
    assert len(both.events("trial.started")) == 1


async def test_many_purchases_of_one_key_are_one_purchase(both: Cluster) -> None:
    replies = await asyncio.gather(
        *(
            both.nodes[n % 2].post("/api/billing/purchases", ONE, BUY, Idempotency_Key="k")
            for n in range(30)
        )
    )

    assert len({reply.data["purchase_id"] for reply in replies}) == 1
    assert len(both.platform.asked) == 1


async def test_a_page_without_a_token_shows_no_secret_and_no_merchant(both: Cluster) -> None:
    await both.buy(M2, 1)
    for path in ("/metrics", "/health", "/ready", "/openapi.json", "/asyncapi.json", "/docs", "/"):
        text = (await get(both.nodes[0].url, path)).raw
        for poison in (CLIENT_SECRET, INTERNAL_SECRET, M1, M2, ONE, TWO, "gid://"):
            # The examples of the descriptions have a merchant and a charge of their own.
            described = path.endswith(".json") and poison in (M1, M2, "gid://")
            assert described or poison.encode() not in text, (path, poison)


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /s3cr3t-path\x00 HTTP/1.1",
        b"GET /s3cr3t-path HTTP/9.9",
        b"GET s3cr3t-path",
        b"<script>s3cr3t</script>",
        b"GET / HTTP/1.1\r\ns3cr3t header: x",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer s3cr3t\x00",
        b"GET /" + b"s3cr3t" * 2000 + b" HTTP/1.1",
    ],
)
async def test_an_answer_to_what_is_not_http_repeats_none_of_it(
    both: Cluster, request_line: bytes
) -> None:
    answer = await raw(both.nodes[0], request_line + b"\r\nHost: x\r\n\r\n")

    assert status_of(answer) == 400
    assert b"s3cr3t" not in answer
    assert b"aiohttp" not in answer
    assert b"Python" not in answer
    assert b'"code":"BAD_REQUEST"' in answer
