"""A session ends when it is ended, its cookie stays on its host, its forms come from its site."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.records.ended_sessions import EndedSession
from billing_stream.web.envelope import ApiError
from billing_stream.web.ops import ended_sessions
from billing_stream.web.ops.ended_sessions import EndedSessions
from tests.ops.test_access import M1, ask, cookie_of, csrf_of, log_in, two
from tests.support.nodes import Cluster, cluster, get
from tests.support.platform import MemoryIngress
from tests.support.production import PRODUCTION
from tests.support.tokens import operator_headers, operator_token

__all__ = ["two"]
FORM = {"credits": "25", "reason": "a gift", "confirmed": "yes", "key": f"ops/{M1}"}
STRONG = PRODUCTION["INTERNAL_JWT_SECRET"]


@pytest_asyncio.fixture
async def real(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A worker as in production, which browsers reach as https://billing.example."""
    public = {"BILLING_PUBLIC_URL": "https://billing.example/x"}
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, **PRODUCTION, **public) as found:
        yield found


async def log_out(two: Cluster, cookie: str, node: int = 0) -> Any:
    form = {"csrf": await csrf_of(two, cookie)}
    return await ask(two, "/ops/logout", "POST", node=node, data=form, headers={"Cookie": cookie})


async def test_a_logout_that_kafka_does_not_have_ends_nothing(two: Cluster) -> None:
    cookie = cookie_of(await log_in(two))
    two.nodes[0].ingress.up = False

    refused = await log_out(two, cookie)
    still = await ask(two, "/ops/workers", headers={"Cookie": cookie})
    two.nodes[0].ingress.up = True
    done = await log_out(two, cookie)

    assert (refused.status, "Set-Cookie" in refused.headers) == (503, False)
    assert (still.status, done.status) == (200, 303)
    assert (await ask(two, "/ops/workers", node=1, headers={"Cookie": cookie})).status == 303


async def test_no_cookie_is_believed_before_ended_sessions_are_read(two: Cluster) -> None:
    cookie = cookie_of(await log_in(two))
    two.nodes[1].context.ended_sessions.loaded = False

    unread = await ask(two, "/ops/workers", node=1, headers={"Cookie": cookie})
    by_header = await ask(two, "/ops/workers", node=1, headers=operator_headers())

    assert (unread.status, by_header.status) == (503, 200)


async def test_ended_sessions_are_forgotten_when_they_expire_and_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ended_sessions, "SESSIONS_MAX", 100)
    now = time.time()
    found = EndedSessions(MemoryIngress(), 4, lambda: now)
    found.loaded = True
    for number in range(1_000):
        await found.end(f"s{number}", now + 3600 + number)
        assert len(found._until) <= 100

    with pytest.raises(ApiError, match="was ended"):
        found.require_open("s999")
    now += 10_000
    found.note(EndedSession("late", datetime.fromtimestamp(1, UTC)))
    found.require_open("late")


async def test_in_production_the_cookie_is_of_this_host_and_of_tls_only(real: Cluster) -> None:
    token = operator_token("olga", secret=STRONG)
    reply = await log_in(real, token, **{"X-Forwarded-Proto": "http"})

    name, _, rest = reply.headers["Set-Cookie"].partition("=")
    assert name == "__Host-billing_ops"
    assert {"HttpOnly", "Path=/", "SameSite=Strict", "Secure"} <= set(rest.split("; "))
    assert "Domain" not in rest
    cookie = cookie_of(reply)
    assert (await ask(real, "/ops/workers", headers={"Cookie": cookie})).status == 200
    tossed = cookie.replace("__Host-billing_ops", "billing_ops")
    assert (await ask(real, "/ops/workers", headers={"Cookie": tossed})).status == 303


OTHERS = [
    "https://evil.example",
    "http://evil.example",
    "null",
    "",
    "https://billing.example.evil.example",
    "https://evil.example#billing.example",
    "https://billing.example@evil.example",
    "https://billing.example:444",
    "https://[::1",
    "file://",
]


@pytest.mark.parametrize("origin", OTHERS)
async def test_a_login_from_another_site_is_refused(real: Cluster, origin: str) -> None:
    token = operator_token("olga", secret=STRONG)

    reply = await log_in(real, token, Origin=origin, Host="billing.example")

    assert (reply.status, "Set-Cookie" in reply.headers) == (403, False)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://billing.example", "billing.example"),
        ("https://billing.example", "10.0.0.7:8000"),
        ("https://BILLING.example:443", "billing.example"),
        ("https://ops.corp.example:8443", "ops.corp.example:8443"),
        ("https://ops.corp.example", "ops.corp.example:443"),
    ],
)
async def test_a_login_from_this_site_is_accepted(real: Cluster, origin: str, host: str) -> None:
    token = operator_token("olga", secret=STRONG)

    assert (await log_in(real, token, Origin=origin, Host=host)).status == 303


async def test_in_production_a_form_from_plain_http_is_refused(real: Cluster) -> None:
    token = operator_token("olga", secret=STRONG)

    reply = await log_in(real, token, Origin="http://billing.example", Host="billing.example")

    assert reply.status == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
async def test_no_form_of_another_origin_acts(two: Cluster, origin: str) -> None:
    cookie = cookie_of(await log_in(two))
    form = {**FORM, "csrf": await csrf_of(two, cookie)}
    headers = {"Cookie": cookie, "Origin": origin}

    for path in (f"/ops/merchants/{M1}/adjust", "/ops/logout"):
        assert (await ask(two, path, "POST", data=form, headers=headers)).status == 403
    assert two.events("credits.adjusted") == []
    assert (await ask(two, "/ops/workers", headers={"Cookie": cookie})).status == 200


DAY = 24 * 3600


@pytest.mark.parametrize("ends_in", [13 * 3600, DAY, 100 * 365 * DAY, 10**30])
async def test_an_operators_token_of_more_than_12_hours_is_refused(
    two: Cluster, ends_in: int
) -> None:
    token = operator_token("olga", exp=int(time.time()) + ends_in)
    headers = {"Authorization": f"Bearer {token}"}
    body = {"merchant_id": M1, "credits": 5, "reason": "r", "idempotency_key": "k"}
    url = two.nodes[0].url

    assert (await log_in(two, token)).status == 401
    assert (await get(url, "/ops/workers", headers)).status == 401
    reply = await get(url, "/internal/adjustments", headers, method="POST", json=body)
    assert (reply.status, reply.code) == (401, "UNAUTHORIZED")


async def test_an_operators_token_of_12_hours_is_accepted(two: Cluster) -> None:
    token = operator_token("olga", exp=int(time.time()) + 12 * 3600)

    assert (await log_in(two, token)).status == 303
