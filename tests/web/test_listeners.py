"""What is asked on one listener is not there on another. Real HTTP on each."""

import re
import resource
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from yarl import URL

from billing_stream.config.listener_settings import Listener
from billing_stream.config.settings import Settings
from billing_stream.faust_adapter.faust_app import static_member
from billing_stream.ops.doctor.machine import check_settings
from billing_stream.web import checkout_page, operators, server
from billing_stream.worker import raise_descriptors
from tests.support.nodes import Cluster, Reply, cluster, get
from tests.support.ports import free_port
from tests.support.production import PRODUCTION
from tests.support.tokens import client_headers, operator_headers
from tests.support.traffic import Traffic
from tests.support.worker import create_topics, environment, run, worker
from tests.web.conftest import M1
from tests.web.test_two_workers import Client, wait_for_all

DOMAIN = "one.example"
PUBLIC, OPS, INTERNAL = Listener
# A path of each kind, and every way to hide one that routers have fallen for.
PATHS: Mapping[Listener, tuple[str, ...]] = {
    PUBLIC: (
        *("/api/billing", "/api/billing/history", "/webhooks/stripe"),
        *("/docs", "/openapi.json", "/asyncapi.json"),
    ),
    OPS: ("/ops", "/ops/login", "/ops/static/ops.css", f"/ops/merchants/{M1}", "/ops/dead-letters"),
    INTERNAL: (
        *("/metrics", "/internal/queries", "/internal/commands", "/internal/adjustments"),
        *("/internal/clock", "/internal/ops/figures", "/internal/ops/rows"),
    ),
}
NONE = {"code": ""}
DISGUISES = ("{}/", "/{}", "{}?x=/api", "/api/..{}", "{}%2f", "/./{}", "{}#api", "{};/api")
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")


class Worker(NamedTuple):
    """A worker with three listeners."""

    cluster: Cluster
    urls: Mapping[Listener, str]


@pytest_asyncio.fixture
async def one(tmp_path: Path) -> AsyncIterator[Worker]:
    ports = {listener: str(free_port()) for listener in (PUBLIC, OPS)}
    async with cluster(
        str(tmp_path),
        {0: [0, 1, 2, 3]},
        BILLING_API_BIND="127.0.0.1",
        BILLING_API_EXTERNAL_PORT=ports[PUBLIC],
        BILLING_OPS_PORT=ports[OPS],
        BILLING_INTERNAL_PORT=str(free_port()),
    ) as found:
        urls = {listener: f"http://127.0.0.1:{port}" for listener, port in ports.items()}
        yield Worker(found, {**urls, INTERNAL: found.nodes[0].url})


async def ask(url: str, path: str, method: str = "GET") -> Reply:
    """Ask with every credential there is, so that only the listener can say no."""
    headers = {**client_headers(DOMAIN), "Accept": "text/html"}
    if not path.lstrip("/.").startswith(("api", "webhooks")):
        headers |= operator_headers()
    return await get(url, path, headers, method=method, allow_redirects=False)


async def test_each_path_is_served_on_its_listener_alone(one: Worker) -> None:
    await one.cluster.create(M1, DOMAIN)
    for listener, paths in PATHS.items():
        for path in paths:
            for asked, url in one.urls.items():
                reply = await ask(url, path)
                said = (reply.body or {}).get("error") or NONE
                is_there = said["code"] != "NOT_FOUND"
                assert is_there is (asked is listener), (path, asked, reply)


async def test_a_path_of_another_listener_looks_like_one_that_is_nowhere(one: Worker) -> None:
    nowhere = await ask(one.urls[PUBLIC], "/nowhere")

    for path in (*PATHS[OPS], *PATHS[INTERNAL]):
        for method in METHODS:
            reply = await ask(one.urls[PUBLIC], path, method)
            assert reply.status == 404, (method, path)
            assert reply.body["error"] == nowhere.body["error"]
            assert set(reply.headers) == set(nowhere.headers)


@pytest.mark.parametrize("disguise", DISGUISES)
async def test_no_spelling_of_a_path_leads_past_the_listener(one: Worker, disguise: str) -> None:
    async with aiohttp.ClientSession() as session:
        for path in (*PATHS[OPS], *PATHS[INTERNAL]):
            url = URL(one.urls[PUBLIC] + disguise.format(path), encoded=True)
            async with session.get(url, headers=operator_headers()) as reply:
                assert reply.status in (400, 404), (url, await reply.text())


async def test_host_and_forwarding_headers_choose_no_listener(one: Worker) -> None:
    for name in ("Host", "X-Forwarded-Host", "X-Forwarded-Port", "X-Original-URL", "Forwarded"):
        value = one.urls[INTERNAL].removeprefix("http://")
        reply = await get(one.urls[PUBLIC], "/metrics", {name: value})
        assert reply.status == 404


async def test_health_and_readiness_are_asked_where_requests_are_sent(one: Worker) -> None:
    for url in one.urls.values():
        assert (await get(url, "/health")).data["status"] == "ok"
        assert (await get(url, "/ready")).data["ready"] is True


async def test_connections_to_one_listener_take_no_place_of_another(tmp_path: Path) -> None:
    public = free_port()
    async with (
        cluster(
            str(tmp_path),
            {0: [0, 1, 2, 3]},
            BILLING_API_EXTERNAL_PORT=str(public),
            BILLING_INTERNAL_PORT=str(free_port()),
            BILLING_CONNECTIONS_MAX="16",
        ) as found,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        for _ in range(16):
            (await session.get(f"http://127.0.0.1:{public}/health")).close()
        metrics = await get(found.nodes[0].url, "/metrics")
        assert metrics.status == 200
        assert await get(found.nodes[0].url, "/health")


async def test_one_port_serves_everything_by_default(tmp_path: Path) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}) as found:
        await found.create(M1, DOMAIN)
        for path in ("/api/billing", "/ops/login", "/metrics", "/internal/queries", "/health"):
            assert (await ask(found.nodes[0].url, path)).status != 404


def test_every_operation_has_the_listener_of_its_kind() -> None:
    for one in (*server.OPERATIONS, *operators.TEST_OPERATIONS, *checkout_page.OPERATIONS):
        first = one.path.split("/")[1]
        if first in ("internal", "metrics"):
            assert one.listeners == {INTERNAL}
        elif first == "ops":
            assert one.listeners == {OPS}
        elif first not in ("health", "ready"):
            assert one.listeners == {PUBLIC}


def settings(**given: str) -> Settings:
    return Settings.model_validate({**environment("127.0.0.1:1", ""), **given})


def test_listeners_with_one_address_are_one() -> None:
    found = settings(BILLING_API_EXTERNAL_PORT="8000", BILLING_OPS_PORT="8000")
    assert found.addresses == {("0.0.0.0", 8000): frozenset(Listener)}

    found = settings(
        BILLING_API_EXTERNAL_PORT="8000", BILLING_OPS_PORT="8001", BILLING_INTERNAL_PORT="8001"
    )
    assert found.addresses[("0.0.0.0", 8001)] == {OPS, INTERNAL}  # type: ignore[index]


def test_one_port_at_overlapping_addresses_is_refused() -> None:
    with pytest.raises(ValueError, match="port 8000 is to be listened on at"):
        settings(BILLING_API_EXTERNAL_PORT="8000", BILLING_INTERNAL_BIND="127.0.0.1")
    assert settings(
        BILLING_API_BIND="10.0.0.1", BILLING_OPS_BIND="127.0.0.1", BILLING_INTERNAL_BIND="127.0.0.1"
    )


def test_the_identity_in_the_group_has_the_port_that_others_ask() -> None:
    given = {"BILLING_WORKER_NAME": "w", "BILLING_API_EXTERNAL_PORT": "8000"}
    assert static_member(settings(**given)) == "w-127.0.0.1-8000"
    assert static_member(settings(**given, BILLING_INTERNAL_PORT="8002")) == "w-127.0.0.1-8002"


@pytest.mark.timeout(120)
async def test_workers_ask_each_other_on_their_internal_listeners(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    async with Traffic(kafka, prefix, 4, 5) as traffic:
        await traffic.merchants(12, purchases_each=1)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        workers, internal = [], []
        for _ in range(2):
            internal.append(free_port())
            ports = {
                "BILLING_INTERNAL_PORT": str(internal[-1]),
                "BILLING_OPS_PORT": str(free_port()),
            }
            workers.append(await stack.enter_async_context(worker({**env, **ports}, folder)))
        await wait_for_all(Client(session), workers[0], traffic)
        for asked in workers:
            # Half of them belong to the other worker.
            for domain in traffic.expected.domains.values():
                headers = client_headers(domain)
                async with session.get(asked.url + "/api/billing", headers=headers) as reply:
                    assert reply.status == 200, await reply.text()
            assert (await get(asked.url, "/metrics")).status == 404
        for port in internal:
            metrics = (await get(f"http://127.0.0.1:{port}", "/metrics")).raw.decode()
            counted = re.findall(r"billing_http_requests_total\{(.*queries.*)\} (.*)", metrics)
            assert [('code="200"' in labels, float(n) > 0) for labels, n in counted] == [
                (True, True)
            ]
        assert [await one.stop() for one in workers] == [0, 0]


async def nothing(_: web.BaseRequest) -> web.Response:
    return web.Response()


async def test_a_port_that_is_taken_is_named_before_the_start(kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    with_port = {**env, "BILLING_API_BIND": "127.0.0.1"}
    runner = web.ServerRunner(web.Server(nothing))
    await runner.setup()
    try:
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        code, output = await run({**with_port, "BILLING_OPS_PORT": str(port)}, "worker")
    finally:
        await runner.cleanup()
    assert code == 2
    assert f"port {port} of 127.0.0.1 cannot be listened on" in output


@pytest.mark.parametrize(
    ("limit", "open_files", "told"), [((256, 4096), 2504, False), ((256, 1024), 1024, True)]
)
def test_a_worker_may_open_what_its_limits_of_connections_need(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: tuple[int, int],
    open_files: int,
    told: bool,
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limit)
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: given.append(both))

    raise_descriptors(settings(BILLING_OPS_PORT="8001", BILLING_INTERNAL_PORT="8002"))

    assert given == [(open_files, limit[1])]
    assert ("2504 descriptors are needed, and 1024 allowed" in caplog.text) is told


@pytest.mark.parametrize(
    ("ops", "internal", "shared"),
    [("8000", "8000", "internal and ops"), ("8001", "8000", "internal"), ("8001", "8002", None)],
)
def test_the_doctor_warns_of_a_public_listener_that_serves_more(
    ops: str, internal: str, shared: str | None
) -> None:
    found = settings(**{**PRODUCTION, "BILLING_OPS_PORT": ops, "BILLING_INTERNAL_PORT": internal})

    said = [one.message for one in check_settings(found, []) if "public listener" in one.message]

    assert said == ([f"the public listener serves {shared}, too"] if shared else [])
