"""Workers are asked at addresses of workers only, whatever the group says; and must agree."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from billing_stream.config.peer_addresses import PeerAddresses
from billing_stream.config.settings import Settings
from billing_stream.ops.doctor.finding import Finding, Verdict
from billing_stream.ops.doctor.peer_checks import ask_workers
from billing_stream.web.refusals import Credential
from tests.support.nodes import Cluster, Node, cluster, get
from tests.support.ports import free_port
from tests.support.production import PRODUCTION, secret
from tests.support.tokens import operator_headers
from tests.support.worker import environment
from tests.web.conftest import M1

SHOP = "one.example"
LOCAL = {"BILLING_PEERS": "127.0.0.1"}
DIFFERS = "refuses our tokens: INTERNAL_JWT_SECRET differs"


@pytest.mark.parametrize(
    ("pattern", "url", "allowed"),
    [
        ("*.workers", "http://a-0.workers:8000", True),
        ("*.workers", "http://A-0.WORKERS:8000", True),
        ("*.workers", "http://a.b.workers:8000", False),
        ("*.workers", "http://.workers:8000", False),
        ("*.workers", "http://a.workers.evil.example:8000", False),
        ("*.workers", "http://a.workers.:8000", False),
        ("*.workers", "http://a.workers@evil.example:8000", False),
        ("*.workers", "http://user:pw@a.workers:8000", False),
        ("*.workers", "http://evil.example#.workers", False),
        ("*.workers", "http://evil.example?.workers", False),
        ("*.workers", "http://evil.example/.workers", False),
        ("*.workers", "http://evil.example\\.workers", False),
        ("*.workers", "http://evil.example%2f.workers", False),
        ("*.workers", "http://a.workers:8000/internal", False),
        ("*.workers", "http://a.workers:8000/?x=1", False),
        ("*.workers", "http://a b.workers:8000", False),
        ("*.workers", "http://a\n.workers:8000", False),
        ("*.workers", "file://a.workers/etc/passwd", False),
        ("*.workers", "gopher://a.workers:8000", False),
        ("*.workers", "a.workers:8000", False),
        ("*.workers", "//a.workers:8000", False),
        ("*.workers", "http://a.workers:99999", False),
        ("*.workers", "", False),
        ("*.workers:8000", "http://a.workers:8000", True),
        ("*.workers:8000", "http://a.workers:2181", False),
        ("*.workers:80", "http://a.workers", True),
        ("billing-*", "http://billing-2:8000", True),
        ("billing-*", "http://billing-:8000", False),
        ("billing-*", "http://billing-2.evil.example:8000", False),
        ("a.example,b.example", "http://b.example:1", True),
        ("A.example , b.example", "http://a.example:1", True),
        ("10.1.0.0/16", "http://10.1.255.7:8000", True),
        ("10.1.0.0/16", "http://10.2.0.1:8000", False),
        ("10.1.0.0/16", "http://10.1.evil.example:8000", False),
        ("10.1.0.0/16:8000", "http://10.1.0.1:8001", False),
        ("10.1.2.3", "http://10.1.2.3:8000", True),
        ("10.1.2.3", "http://0xa.1.2.3:8000", False),
        ("10.1.2.3", "http://167838211:8000", False),
        ("10.1.2.3", "http://[::ffff:10.1.2.3]:8000", False),
        ("[fd00::/8]:8000", "http://[fd00::1]:8000", True),
        ("[fd00::/8]", "http://[fe80::1]:8000", False),
        ("127.0.0.1", "http://169.254.169.254", False),
        ("127.0.0.1", "http://localhost:8000", False),
        (None, "http://anywhere:1", True),
        (None, "http://u@anywhere:1", False),
        (None, "anywhere", False),
    ],
)
def test_an_address_is_allowed_by_its_pattern_alone(
    pattern: str | None, url: str, allowed: bool
) -> None:
    assert PeerAddresses(pattern).allow(url) is allowed


@pytest.mark.parametrize(
    "pattern",
    [
        *("", " ", "a,,b", "http://a", "a/b", "a:b", "a:80:80", "[::1", "a..b", ".a", "a."),
        *("*", "*.*", "*:80", "workers.*", "10.1.*.*", "10.1.2.*", "12", "é.example"),
        *("10.1.0.0/99", "10.1.2.3/16"),
    ],
)
def test_a_pattern_that_is_none_or_matches_anyone_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="address"):
        PeerAddresses(pattern)
    with pytest.raises(ValueError, match="BILLING_PEERS"):
        Settings.model_validate(environment("127.0.0.1:1", "", BILLING_PEERS=pattern or " "))


@asynccontextmanager
async def stranger(host: str = "localhost") -> AsyncIterator[tuple[str, list[str]]]:
    """A server that is no worker, at this machine by its name: its address, what it was asked."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(str(request.rel_url))
        return web.json_response({"merchant_id": None})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        yield f"http://{host}:{server.port}", asked


def refused(node: Node, route: str) -> float:
    labels = {"credential": Credential.PEER_ADDRESS.value, "route": route}
    return node.metrics.registry.get_sample_value("billing_credentials_refused_total", labels) or 0


async def warnings(node: Node) -> list[str]:
    found: list[str] = (await get(node.url, "/ready")).data["warnings"]
    return found


async def test_an_address_that_is_none_of_a_worker_gets_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}, **LOCAL) as found,
        stranger() as (
            url,
            asked,
        ),
    ):
        node = found.nodes[0]
        await node.own([])
        node.hears({url: [0, 1, 2, 3]})
        command = {"pack": "small", "platform": "shopify", "return_url": "https://x.example"}

        replies = [
            await node.get("/api/billing", SHOP),
            await node.post("/api/billing/purchases", SHOP, command),
            await node.post("/api/billing/trials", SHOP),
        ]
        await node.context.peers.look()
        snapshot = await node.context.dashboard.cluster()
        page = await get(node.url, "/ops/workers", operator_headers())
        told = await warnings(node)
        counted = refused(node, "/internal/queries")

    assert [(one.status, one.code) for one in replies] == [(503, "NOT_READY")] * 3
    assert asked == []
    reason = "is not asked: BILLING_PEERS does not match its address"
    assert told == [f"the worker at {url} {reason}"]
    assert [one.trouble for one in snapshot.workers if one.url == url] == [reason]
    assert reason.encode() in page.raw
    assert counted == 3
    lines = [one.getMessage() for one in caplog.records if "BILLING_PEERS" in one.getMessage()]
    assert (
        "did not send 3 requests to /internal/queries of workers that BILLING_PEERS does not "
        "allow: peer_address" in lines
    )


@pytest.mark.parametrize("host", ["a" * 70, "x" * 300 + ".example", "nobody.invalid"])
async def test_a_name_that_cannot_be_found_is_an_owner_that_does_not_answer(
    two: Cluster, host: str
) -> None:
    node = two.nodes[0]
    await node.own([])
    node.hears({f"http://{host}:{free_port()}": [0, 1, 2, 3]})

    reply = await node.get("/api/billing", SHOP)
    await node.context.peers.look()

    assert (reply.status, reply.code) == (503, "NOT_READY")


async def test_many_strange_members_are_not_all_named(two: Cluster) -> None:
    node = two.nodes[0]
    node.hears({f"ftp://{number}": [] for number in range(1000)})

    assert len(await warnings(node)) == 10


async def test_an_own_address_that_others_will_not_ask_is_a_warning(tmp_path: Path) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, BILLING_PEERS="*.workers") as found:
        (told,) = await warnings(found.nodes[0])

    url = found.nodes[0].url
    assert told == f"BILLING_PEERS does not match the address of this worker, {url}"


def differing(number: int, **more: str) -> dict[int, dict[str, str]]:
    return {number: {"INTERNAL_JWT_SECRET": secret("another"), **more}}


@pytest.mark.logs_errors
async def test_a_secret_that_differs_is_named_by_the_worker_and_its_dashboard(
    tmp_path: Path,
) -> None:
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}, differing(1)) as found:
        await found.create(M1, SHOP)
        first, second = found.nodes
        for node, other in ((first, second), (second, first)):
            assert await warnings(node) == []
            await node.context.peers.look()
            assert await warnings(node) == [f"the worker at {other.url} {DIFFERS}"]
            headers = operator_headers(secret=secret("another")) if node is second else None
            page = await get(node.url, "/ops", headers or operator_headers())
            assert f"The worker at {other.url} {DIFFERS}.".encode() in page.raw
        reply = await found.other(M1).get("/api/billing", SHOP)
        assert (reply.status, reply.code) == (503, "NOT_READY")


@pytest.mark.logs_errors
async def test_a_secret_that_differs_is_named_by_what_clients_ask_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}, differing(1)) as found:
        asked = found.other(f"shopify:{SHOP}")
        await asked.get("/api/billing", SHOP)

        assert [one for one in await warnings(asked) if one.endswith(DIFFERS)]
    assert DIFFERS in caplog.text


async def test_a_secret_that_is_being_replaced_is_no_warning(tmp_path: Path) -> None:
    """The second round: one worker signs with the new secret already, all accept both."""
    old, new = secret("old"), secret("new")
    first = {"INTERNAL_JWT_SECRET": old, "INTERNAL_JWT_SECRET_OLD": new}
    second = {"INTERNAL_JWT_SECRET": new, "INTERNAL_JWT_SECRET_OLD": old}
    async with cluster(str(tmp_path), {0: [0], 1: [1, 2, 3]}, {0: first, 1: second}) as found:
        for node in found.nodes:
            await node.context.peers.look()
            assert await warnings(node) == []


@pytest.mark.logs_errors
async def test_a_warning_ends_when_the_worker_accepts_tokens_or_is_gone(tmp_path: Path) -> None:
    said: list[web.Response] = []
    words = {"error": {"message": "the token has expired"}}

    async def answer(_: web.Request) -> web.Response:
        return said.pop() if said else web.json_response(words, status=401)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with cluster(str(tmp_path), {0: []}, **LOCAL) as found, TestServer(application) as server:
        node, url = found.nodes[0], f"http://127.0.0.1:{server.port}"
        node.hears({url: [0]})
        await node.context.peers.look()
        assert await warnings(node) == [
            f"the worker at {url} refuses our tokens: clocks differ by more than 30 s"
        ]
        said.append(web.json_response({}))
        await node.context.peers.look()
        assert await warnings(node) == []
        await node.context.peers.look()
        node.hears({})
        assert await warnings(node) == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"error":{"message":"<b>see evil.example</b>"}}', b"\xff"]
)
@pytest.mark.logs_errors
async def test_what_a_stranger_says_is_not_repeated(two: Cluster, body: bytes) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=401, body=body)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        url = f"http://127.0.0.1:{server.port}"
        two.nodes[0].hears({url: [0]})
        await two.nodes[0].context.peers.look()

    assert await warnings(two.nodes[0]) == [f"the worker at {url} refuses our tokens"]


async def asked_by_doctor(urls: list[str], **settings: str) -> list[Finding]:
    found = Settings.model_validate(environment("127.0.0.1:1", "", **settings))
    return [one async for one in ask_workers(found, urls)]


async def test_the_doctor_names_each_worker_that_refuses_its_secret(tmp_path: Path) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}, differing(1), **LOCAL) as found:
        first, second = (node.url for node in found.nodes)
        good = await asked_by_doctor([first], **LOCAL)
        wrong = await asked_by_doctor([first, second, gone, "http://localhost:1"], **LOCAL)
        none = await asked_by_doctor([])

    assert [one.verdict for one in good] == [Verdict.OK]
    assert {one.message: one.verdict for one in wrong} == {
        f"the worker at {second} {DIFFERS}": Verdict.FAIL,
        f"the worker at {gone} does not answer: ClientConnectorError": Verdict.WARN,
        "the worker at http://localhost:1 is not asked: BILLING_PEERS does not match its address": (
            Verdict.FAIL
        ),
    }
    assert none == []


@pytest.mark.parametrize("app_env", ["staging", "production"])
def test_production_does_not_start_without_addresses_of_workers(app_env: str) -> None:
    def settings(**change: str) -> Settings:
        given = environment("127.0.0.1:1", "p.", **{**PRODUCTION, "APP_ENV": app_env, **change})
        return Settings.model_validate({k: v for k, v in given.items() if v})

    assert settings().peer_addresses.allow("http://127.0.0.1:8000")
    with pytest.raises(ValueError, match=f"BILLING_PEERS is needed when APP_ENV is {app_env}"):
        settings(BILLING_PEERS="")
    with pytest.raises(ValueError, match="BILLING_PEER_TOKENS"):
        settings(BILLING_PEER_TOKENS="old")
