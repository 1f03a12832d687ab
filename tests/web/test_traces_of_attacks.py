"""What an attack leaves behind: a line a minute, a metric; and who acted is always logged."""

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from billing_stream.config.log_settings import LogFormat
from billing_stream.observability.logs import AUDIT_LOGGER, RepeatFilter, formatter
from billing_stream.web.limits import RateLimit
from billing_stream.web.ops.cookies import CookiePolicy
from billing_stream.web.refusals import Credential, Refusals, source_of
from tests.support.nodes import Cluster, Node, Reply, cluster, get, signed_cluster
from tests.support.signed_webhooks import shopify
from tests.support.tokens import (
    client_headers,
    client_token,
    old_worker_headers,
    operator_headers,
    operator_token,
)
from tests.support.worker import CLIENT_SECRET, INTERNAL_SECRET
from tests.web.conftest import M1

SHOP = "one.example"
COOKIE = CookiePolicy(is_real=False).name
PAGE = {"Accept": "text/html"}
GIFT = {"merchant_id": M1, "credits": 25, "reason": "ticket 4711", "idempotency_key": "k"}


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str], list[str]]]:
    """The lines of the log of a process that contain a text."""
    caplog.set_level(logging.INFO)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(LogFormat.CONSOLE, colours=False, secrets=[INTERNAL_SECRET]))
    handler.addFilter(RepeatFilter())
    logging.getLogger("billing_stream").addHandler(handler)
    yield lambda text: [line for line in stream.getvalue().splitlines() if text in line]
    logging.getLogger("billing_stream").removeHandler(handler)


async def log_in(node: Node, token: str, **headers: str) -> Reply:
    form = {"token": token, "next": "/ops"}
    sent = {**PAGE, **headers}
    return await get(node.url, "/ops/login", sent, method="POST", data=form, allow_redirects=False)


def counted(node: Node, credential: Credential, route: str) -> float:
    labels = {"credential": credential.value, "route": route}
    return node.metrics.registry.get_sample_value("billing_credentials_refused_total", labels) or 0


async def forged_logins(node: Node) -> None:
    for number in range(3):
        await log_in(node, operator_token("olga", secret=CLIENT_SECRET, jti=str(number)))


async def forged_operators(node: Node) -> None:
    for headers in ({}, operator_headers(secret=CLIENT_SECRET), operator_headers(scope="x")):
        await get(node.url, "/internal/adjustments", headers, method="POST", json=GIFT)


async def forged_workers(node: Node) -> None:
    for headers in ({}, operator_headers(), old_worker_headers(CLIENT_SECRET)):
        await get(node.url, "/internal/queries?q={}", headers)


async def forged_workers_with_commands(node: Node) -> None:
    for headers in ({}, client_headers(SHOP), old_worker_headers("x" * 40)):
        await get(node.url, "/internal/commands", headers, method="POST", json={})


async def forged_clients(node: Node) -> None:
    await node.get("/api/billing", SHOP, X_Shop_Domain="two.example")
    for token in (client_token(SHOP, secret=INTERNAL_SECRET), "eyJ.x.y"):
        await get(node.url, "/api/billing", client_headers(SHOP, token=token))


async def forged_sessions(node: Node) -> None:
    for cookie in ("x", operator_token("olga"), "eyJhbGciOiJub25lIn0.e30."):
        await get(node.url, "/ops/workers", {**PAGE, "Cookie": f"{COOKIE}={cookie}"})


@pytest.mark.parametrize(
    ("attack", "credential", "route"),
    [
        (forged_logins, Credential.LOGIN, "/ops/login"),
        (forged_operators, Credential.OPERATOR_TOKEN, "/internal/adjustments"),
        (forged_workers, Credential.WORKER_TOKEN, "/internal/queries"),
        (forged_workers_with_commands, Credential.WORKER_TOKEN, "/internal/commands"),
        (forged_clients, Credential.CLIENT_TOKEN, "/api/billing"),
        (forged_sessions, Credential.SESSION, "/ops/workers"),
    ],
)
async def test_a_refused_kind_is_one_line_with_its_count(
    tmp_path: Path,
    written: Callable[[str], list[str]],
    attack: Any,
    credential: Credential,
    route: str,
) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}) as found:
        await found.create(M1, SHOP)
        await attack(found.nodes[0])
        assert counted(found.nodes[0], credential, route) == 3

    (line,) = written("for their credentials")
    assert f"refused 3 requests to {route} within a minute" in line
    assert f"route={route}" in line
    assert "eyJ" not in line


async def test_forged_webhooks_are_one_line_and_real_ones_are_none(
    tmp_path: Path, written: Callable[[str], list[str]]
) -> None:
    async with signed_cluster(str(tmp_path), {0: [0, 1, 2, 3]}) as found:
        node = found.nodes[0]
        real = shopify({}, SHOP, topic="orders/create")
        for headers in ({}, {**real.headers, "X-Shopify-Hmac-Sha256": "AAAA"}, real.headers):
            await get(node.url, real.path, headers, method="POST", data=real.body)

    (line,) = written("for their credentials")
    assert "refused 2 requests" in line
    assert "webhook" in line


async def test_a_flood_of_all_kinds_is_a_line_per_kind_and_route_a_minute(
    written: Callable[[str], list[str]],
) -> None:
    counts: list[tuple[str, str]] = []
    refusals = Refusals(lambda *labels: counts.append(cast(Any, labels)))
    for number in range(10_000):
        refusals.note(list(Credential)[number % 5], f"/route/{number % 3}")

    refusals.close()
    refusals.close()

    assert len(counts) == 10_000
    lines = written("for their credentials")
    assert len(lines) == 15
    assert sum(int(line.partition("refused ")[2].partition(" ")[0]) for line in lines) == 10_000


async def test_logins_that_fail_are_throttled_by_address(tmp_path: Path) -> None:
    limit = {"BILLING_FAILED_LOGINS_PER_MINUTE": "3"}
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}, **limit) as found:
        node, other = found.nodes
        wrong = [(await log_in(node, "x")).status for _ in range(3)]
        late = await log_in(node, operator_token("olga"), **{"X-Forwarded-For": "10.9.8.7"})
        by_header = await get(node.url, "/ops/workers", {**PAGE, **operator_headers()})
        elsewhere = await log_in(other, operator_token("olga"))

    assert wrong == [401, 401, 401]
    assert late.status == 429
    assert 1 <= int(late.headers["Retry-After"]) <= 60
    assert "Set-Cookie" not in late.headers
    assert by_header.status == 200
    assert elsewhere.status == 303


async def test_logins_that_succeed_are_not_throttled(two: Cluster) -> None:
    tokens = [operator_token("olga", jti=str(number)) for number in range(20)]

    assert {(await log_in(two.nodes[0], token)).status for token in tokens} == {303}


def test_a_throttled_address_may_try_again_later() -> None:
    now = [0.0]
    limit = RateLimit(2, lambda: now[0])
    limit.hit("a")
    limit.hit("a")
    with pytest.raises(Exception, match="too many"):
        limit.require_room("a")
    limit.require_room("b")
    now[0] = 30.0
    limit.require_room("a")


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        (None, ""),
        ("unix", "unix"),
    ],
)
def test_a_subscriber_with_many_addresses_is_one_source(remote: str | None, source: str) -> None:
    assert source_of(cast(Any, SimpleNamespace(remote=remote))) == source


async def test_each_act_of_an_operator_is_a_line_with_the_request(
    two: Cluster, written: Callable[[str], list[str]]
) -> None:
    await two.create(M1, SHOP)
    node, url = two.other(M1), two.other(M1).url
    who = operator_headers("alice.smith@corp.example")

    for _ in range(2):
        await log_in(node, operator_token("olga"), **{"X-Request-ID": "same"})
    for key in ("a", "b"):
        body = {**GIFT, "idempotency_key": key}
        headers = {**who, "X-Request-ID": f"r-{key}"}
        await get(url, "/internal/adjustments", headers, method="POST", json=body)
    refused = {**GIFT, "credits": -1000, "idempotency_key": "c"}
    await get(url, "/internal/adjustments", who, method="POST", json=refused)
    form = {"credits": "5", "reason": "r", "key": f"ops/{M1}", "confirmed": "yes"}
    path = f"/ops/merchants/{M1}/adjust"
    await get(url, path, {**PAGE, **who}, method="POST", data=form, allow_redirects=False)

    logins = written("action=login")
    assert len(logins) == 2, "the same line twice is two logins"
    assert all("operator=olga" in line and "request_id=same" in line for line in logins)
    made = written("action=adjustment")
    assert len(made) == 4
    assert all("operator=alice.smith@corp.example" in line and M1 in line for line in made)
    assert ["outcome=INSUFFICIENT_CREDITS" in line for line in made] == [False, False, True, False]
    assert ["request_id=r-" in line for line in made] == [True, True, False, False]
    assert written("4711") == []


def test_acts_are_logged_at_every_level() -> None:
    record = logging.LogRecord(AUDIT_LOGGER, logging.INFO, "x", 1, "login", (), None)
    held_back = RepeatFilter()

    assert [held_back.filter(record) for _ in range(3)] == [True, True, True]
