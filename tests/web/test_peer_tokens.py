"""Calls between workers: each is for one receiver and one request, and is accepted once."""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import msgspec
import pytest
import pytest_asyncio
from yarl import URL

from billing_stream.web.auth import shop_token_headers
from billing_stream.web.envelope import ApiError
from billing_stream.web.owners import FindShop
from billing_stream.web.peer_tokens import Call, PeerCalls, sign
from billing_stream.web.refusals import Credential
from tests.support.nodes import Cluster, Node, cluster
from tests.support.tokens import (
    client_headers,
    old_worker_headers,
    operator_headers,
    peer_headers,
    segment,
)
from tests.support.worker import CLIENT_SECRET, INTERNAL_SECRET
from tests.web.conftest import M1, M2

SHOP = "one.example"
COMMANDS = "/internal/commands"
FIGURES = "/internal/ops/figures"
QUERY = URL("/internal/queries").with_query(
    {"q": msgspec.json.encode(FindShop(f"shopify:{SHOP}")).decode()}
)
TARGET = QUERY.raw_path_qs
INTERNAL = (TARGET, FIGURES, "/internal/ops/rows")
NEW = {"BILLING_PEER_TOKENS": "new"}


def command(kind: str = "start_trial", merchant: str = M1, **more: Any) -> bytes:
    said = {"command": {"command": kind, "merchant_id": merchant}, "shop_domain": SHOP}
    extra = {"credits": 9, "reason": "r", "idempotency_key": "k", "command_id": "c"}
    if kind == "adjust_credits":
        said["command"].update(extra)  # type: ignore[attr-defined]
    return json.dumps({**said, "correlation_id": "c", **more}).encode()


async def send(
    node: Node,
    headers: dict[str, str],
    target: str = TARGET,
    body: bytes = b"",
    method: str = "GET",
) -> int:
    """The status of an answer; the target goes out as it is."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method, URL(node.url + target, encoded=True), headers=headers, data=body or None
        ) as response,
    ):
        await response.read()
        return response.status


async def give(node: Node, headers: dict[str, str], body: bytes) -> int:
    return await send(node, headers, COMMANDS, body, "POST")


def refused(node: Node, credential: Credential, route: str = "/internal/queries") -> float:
    labels = {"credential": credential.value, "route": route}
    return node.metrics.registry.get_sample_value("billing_credentials_refused_total", labels) or 0


@pytest_asyncio.fixture(params=["both", "new"])
async def pair(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Two workers, the second of which has all partitions; with tokens of 0.5.x, and without."""
    chosen = {"BILLING_PEER_TOKENS": request.param}
    async with cluster(str(tmp_path), {0: [], 1: [0, 1, 2, 3]}, **chosen) as found:
        await found.create(M1, SHOP)
        yield found


async def test_a_call_is_accepted_once(pair: Cluster) -> None:
    node = pair.nodes[1]
    headers = peer_headers(node.url, "GET", TARGET)

    assert [await send(node, headers) for _ in range(3)] == [200, 401, 401]
    assert refused(node, Credential.WORKER_CALL) == 2


async def test_a_call_sent_often_at_once_is_accepted_once(pair: Cluster) -> None:
    node, body = pair.nodes[1], command()
    headers = peer_headers(node.url, "POST", COMMANDS, body)

    statuses = await asyncio.gather(*(give(node, headers, body) for _ in range(20)))

    assert sorted(statuses) == [200] + [401] * 19
    assert len(pair.events("trial.started")) == 1


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", QUERY.with_query({"q": '{"query":"find_shop","shop":"x"}'}).raw_path_qs, b""),
        ("GET", TARGET + "&x=1", b""),
        ("GET", TARGET.replace("%22", '"'), b""),
        ("GET", "/internal/queries", b""),
        ("GET", TARGET.replace("queries?", "queries/?"), b""),
        ("GET", FIGURES, b""),
        ("GET", TARGET, b"{}"),
        ("HEAD", TARGET, b""),
        ("POST", COMMANDS, command()),
    ],
)
async def test_a_token_of_one_call_is_for_no_other(
    pair: Cluster, method: str, target: str, body: bytes
) -> None:
    node = pair.nodes[1]
    headers = peer_headers(node.url, "GET", TARGET)

    assert await send(node, headers, target, body, method) in (401, 405)
    assert await send(node, headers) == 200, "nobody else can use it up"


async def test_the_body_of_a_command_cannot_be_changed(pair: Cluster) -> None:
    node = pair.nodes[1]
    headers = peer_headers(node.url, "POST", COMMANDS, command())

    changed = [command(merchant=M2), command() + b" ", b"", command(shop_domain="x")]
    assert [await give(node, headers, body) for body in changed] == [401] * 4
    assert pair.events("trial.started") == []
    assert await give(node, headers, command()) == 200


async def test_a_call_to_one_worker_is_refused_by_another(pair: Cluster) -> None:
    first, second = pair.nodes
    wrong = [first.url, second.url.replace("127.0.0.1", "localhost"), "https" + second.url[4:], ""]

    for address in wrong:
        headers = peer_headers(second.url, "GET", TARGET, htu=address + TARGET)
        assert await send(second, headers) == 401, address
    assert refused(second, Credential.WORKER_CALL) == len(wrong)


def forged(alg: str) -> Callable[[Node], dict[str, str]]:
    def made(node: Node) -> dict[str, str]:
        token = peer_headers(node.url, "GET", TARGET)["Authorization"].split(".")[1]
        return {"Authorization": f"Bearer {segment({'alg': alg})}.{token}."}

    return made


def changed(**claims: Any) -> Callable[[Node], dict[str, str]]:
    return lambda node: peer_headers(node.url, "GET", TARGET, **claims)


def ago(seconds: int, lives: int = 5) -> Callable[[Node], dict[str, str]]:
    def made(node: Node) -> dict[str, str]:
        at = int(time.time()) - seconds
        return peer_headers(node.url, "GET", TARGET, iat=at, exp=at + lives)

    return made


@pytest.mark.parametrize(
    "made",
    [
        lambda node: {},
        forged("none"),
        forged("None"),
        forged("HS256"),
        lambda node: peer_headers(node.url, "GET", TARGET, secret=CLIENT_SECRET),
        ago(40),
        ago(-40),
        ago(5, lives=3600),
        ago(-20, lives=31),
        ago(0, lives=0),
        ago(0, lives=-5),
        changed(exp=None),
        changed(iat=None),
        changed(jti=None),
        changed(jti=""),
        changed(jti=7),
        changed(jti=["x"]),
        changed(jti="x" * 65),
        changed(htm=None),
        changed(htm="get"),
        changed(htu=None),
        changed(htu=TARGET),
        changed(htu=["x"]),
        changed(body=None),
        changed(body=""),
        changed(body=hashlib.sha256(b"x").hexdigest()),
        changed(operator="o\nlga"),
        changed(operator=["olga"]),
        changed(operator=""),
        changed(aud=None),
        changed(aud="billing-stream/operator"),
        changed(aud="billing-stream/shop-tokens"),
        changed(aud="billing-stream/peers"),
        changed(aud=["billing-stream/operator", "billing-stream/shop-tokens"]),
        changed(aud={"billing-stream/peer": 1}),
        changed(aud=["billing-stream/peer", "billing-stream/internal"], htu="http://x" + TARGET),
        changed(aud=["billing-stream/internal", "billing-stream/peer"], jti=None),
        lambda node: shop_token_headers(INTERNAL_SECRET, SHOP),
        lambda node: operator_headers(),
        lambda node: client_headers(SHOP),
    ],
)
async def test_any_other_token_is_refused(
    pair: Cluster, made: Callable[[Node], dict[str, str]]
) -> None:
    assert await send(pair.nodes[1], made(pair.nodes[1])) == 401


@pytest.mark.parametrize("made", [ago(30), ago(-25), ago(0, lives=30)])
async def test_clocks_may_differ_by_half_a_minute(
    pair: Cluster, made: Callable[[Node], dict[str, str]]
) -> None:
    assert await send(pair.nodes[1], made(pair.nodes[1])) == 200


async def test_a_token_for_the_service_of_tokens_opens_nothing_here(pair: Cluster) -> None:
    node = pair.nodes[1]
    token = shop_token_headers(INTERNAL_SECRET, SHOP)
    claims = jwt.decode(token["Authorization"][7:], options={"verify_signature": False})
    cookie = {"Cookie": f"billing_ops={token['Authorization'][7:]}"}

    assert claims.items() >= {("aud", "billing-stream/shop-tokens"), ("shop", SHOP)}
    assert 0 < claims["exp"] - claims["iat"] <= 30
    assert [await send(node, token, target) for target in INTERNAL] == [401] * 3
    assert await give(node, token, command()) == 401
    assert await send(node, token, "/internal/adjustments", b"{}", "POST") == 401
    assert await send(node, token, "/ops/workers") == 401
    assert await send(node, cookie, "/ops/workers") != 200
    assert await send(node, {**client_headers(SHOP), **token}, "/api/billing") == 401


@pytest.mark.parametrize(
    ("tokens", "status"), [({}, 200), ({"BILLING_PEER_TOKENS": "both"}, 200), (NEW, 401)]
)
async def test_a_token_of_0_5_is_accepted_until_new_ones_are_demanded(
    tmp_path: Path, tokens: dict[str, str], status: int
) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, **tokens) as found:
        await found.create(M1, SHOP)
        node, old = found.nodes[0], old_worker_headers()
        long = old_worker_headers(exp=int(time.time()) + 3600)

        assert [await send(node, old, target) for target in INTERNAL] == [status] * 3
        assert await give(node, old, command()) == status
        assert await send(node, long) == 401


ORIGINS = ["cli", "timer", "operator:", "operator:ceo@example.com", "HTTP", "", "http "]


@pytest.mark.parametrize("kind", ["start_trial", "adjust_credits", "move_clock"])
@pytest.mark.parametrize("old", [True, False])
async def test_a_caller_may_not_claim_the_origin_of_another(
    two: Cluster, kind: str, old: bool
) -> None:
    await two.create(M1, SHOP)
    node = two.owner(M1)
    more = {} if kind != "move_clock" else {"to": "2031-01-01T00:00:00Z", "command_id": "c"}
    for origin in ORIGINS + (["http"] if kind != "start_trial" else []):
        body = json.loads(command(kind, origin=origin))
        body["command"].update(more)
        raw = json.dumps(body).encode()
        made = old_worker_headers() if old else peer_headers(node.url, "POST", COMMANDS, raw)
        assert await give(node, made, raw) == 403, origin

    assert refused(node, Credential.ORIGIN, COMMANDS) >= len(ORIGINS)
    assert two.events("credits.adjusted") == two.events("trial.started") == []


@pytest.mark.parametrize("origin", ["http", "operator:ceo@example.com", "operator:olg", "cli"])
async def test_an_operator_is_named_as_the_caller_has_verified_it(
    two: Cluster, origin: str
) -> None:
    await two.create(M1, SHOP)
    node = two.owner(M1)
    wrong, trial = command("adjust_credits", origin=origin), command(origin="operator:olga")
    right = command("adjust_credits", origin="operator:olga")

    def signed(body: bytes) -> dict[str, str]:
        return peer_headers(node.url, "POST", COMMANDS, body, operator="olga")

    assert await give(node, signed(wrong), wrong) == 403
    assert await give(node, signed(trial), trial) == 403
    assert await give(node, signed(right), right) == 200
    assert len(two.events("credits.adjusted")) == 1


def test_only_workers_of_0_5_can_use_a_token_for_another_call() -> None:
    """A token that is for them, too, is judged as one of a call by all others."""
    call = Call("http://a:1", "GET", "/x")
    for old in (True, False):
        headers = sign(call, INTERNAL_SECRET, old=old)
        claims = jwt.decode(headers["Authorization"][7:], options={"verify_signature": False})
        assert ("billing-stream/internal" in claims["aud"]) is old
        with pytest.raises(ApiError, match="another call"):
            PeerCalls([INTERNAL_SECRET], old=True).verify(headers, Call("http://b:1", "GET", "/x"))


@pytest.mark.parametrize("order", [("old-" * 10, "new-" * 10), ("new-" * 10, "old-" * 10)])
def test_while_a_secret_is_replaced_calls_of_both_are_accepted(order: tuple[str, str]) -> None:
    calls, call = PeerCalls(order, old=False), Call("http://a:1", "GET", "/x")

    for secret in order:
        headers = sign(call, secret, old=False)
        assert calls.verify(headers, call) == call
        with pytest.raises(ApiError, match="used before"):
            calls.verify(headers, call)
    with pytest.raises(ApiError, match="not valid"):
        calls.verify(sign(call, "other-" * 10, old=False), call)


class Clock:
    """Moved by hand, from now on."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def made(seconds: int = 0) -> dict[str, str]:
    at = int(time.time()) + seconds
    return peer_headers("http://a:1", "GET", "/x", iat=at, exp=at + 5, jti=secrets.token_hex(8))


CALL = Call("http://a:1", "GET", "/x")


def test_calls_are_remembered_until_they_have_expired_and_no_longer() -> None:
    clock = Clock()
    calls = PeerCalls([INTERNAL_SECRET], old=False, clock=clock)
    for _ in range(50):
        calls.verify(made(), CALL)
    clock.now += 34
    calls.verify(made(20), CALL)
    assert len(calls) == 51
    clock.now += 2
    calls.verify(made(20), CALL)
    assert len(calls) == 2


def test_a_flood_of_calls_is_remembered_in_part_and_none_accepted_twice() -> None:
    calls = PeerCalls([INTERNAL_SECRET], old=False, most=100)
    first = [made(-10) for _ in range(100)]
    for headers in (*first, *(made() for _ in range(100))):
        calls.verify(headers, CALL)

    assert len(calls) == 100
    for headers in (*first, made(-10)):
        with pytest.raises(ApiError, match="used before"):
            calls.verify(headers, CALL)
    calls.verify(made(1), CALL)


def test_a_clock_that_is_set_back_makes_no_call_new() -> None:
    clock = Clock()
    calls = PeerCalls([INTERNAL_SECRET], old=False, clock=clock)
    early = made()
    calls.verify(early, CALL)
    clock.now += 60
    calls.verify(made(20), CALL)
    clock.now -= 60

    with pytest.raises(ApiError, match="used before"):
        calls.verify(early, CALL)


def test_a_header_of_a_call_is_small() -> None:
    call = Call("http://billing-stream-0.billing-stream-workers:8000", "GET", TARGET, b"x" * 9999)

    assert len(sign(call, INTERNAL_SECRET, old=True)["Authorization"]) < 1000
