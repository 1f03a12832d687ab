"""Who gets in, what a form must have, and what every page says to the browser."""

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jwt
import pytest
import pytest_asyncio

from billing_stream.web.ops.cookies import CookiePolicy
from billing_stream.web.ops.paths import OPERATIONS
from billing_stream.web.ops.session import AUDIENCE
from tests.support.nodes import Cluster, Reply, cluster, get
from tests.support.tokens import (
    client_headers,
    old_worker_headers,
    operator_headers,
    operator_token,
)
from tests.support.worker import CLIENT_SECRET, INTERNAL_SECRET

COOKIE = CookiePolicy(is_real=False).name
M1 = "11111111-1111-4111-8111-111111111111"
BROWSER = {"Accept": "text/html,application/xhtml+xml"}
READ = (
    "/ops",
    "/ops/workers",
    "/ops/dead-letters",
    "/ops/dead-letters/0@1",
    "/ops/dead-letters/0@1/redrive",
    "/ops/dead-letters/0@1/edit",
    "/ops/dead-letters/0@1/discard",
    "/ops/merchants",
    "/ops/merchants.csv",
    "/ops/purchases",
    "/ops/purchases.csv",
    "/ops/revenue",
    f"/ops/merchants/{M1}",
    f"/ops/merchants/{M1}/adjust",
    "/ops/catalogue",
    f"/ops/merchants/{M1}/extend-trial",
    f"/ops/merchants/{M1}/shop",
)
ACT = (
    "/ops/dead-letters/0@1/redrive",
    "/ops/dead-letters/0@1/edit",
    "/ops/dead-letters/0@1/discard",
    f"/ops/merchants/{M1}/adjust",
    f"/ops/merchants/{M1}/extend-trial",
    f"/ops/merchants/{M1}/shop",
    "/ops/logout",
)
GIFT = {"credits": "25", "reason": "a gift", "confirmed": "yes", "key": f"ops/{M1}"}


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers that know one merchant."""
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as found:
        await found.create(M1, "one.example")
        yield found


async def ask(
    two: Cluster,
    path: str,
    method: str = "GET",
    *,
    node: int = 0,
    headers: Mapping[str, str] = MappingProxyType({}),
    data: Any = None,
) -> Reply:
    """Ask as a browser does."""
    sent = {**BROWSER, **headers}
    url = two.nodes[node].url
    return await get(url, path, sent, method=method, allow_redirects=False, data=data)


async def log_in(two: Cluster, token: str | None = None, **headers: str) -> Reply:
    form = {"token": token or operator_token("olga"), "next": "/ops/workers"}
    return await ask(two, "/ops/login", "POST", data=form, headers=headers)


def cookie_of(reply: Reply) -> str:
    return reply.headers["Set-Cookie"].partition(";")[0]


async def csrf_of(two: Cluster, cookie: str) -> str:
    page = await ask(two, f"/ops/merchants/{M1}/adjust", headers={"Cookie": cookie})
    found = re.search(rb'name="csrf" value="([0-9a-f]{64})"', page.raw)
    assert found is not None
    return found[1].decode()


@pytest.mark.parametrize("path", READ)
async def test_who_is_not_logged_in_is_led_there_and_back_again(two: Cluster, path: str) -> None:
    led = await ask(two, path)

    assert led.status == 303
    assert led.headers["Location"].startswith("/ops/login?next=%2Fops")
    assert b"one.example" not in led.raw


@pytest.mark.parametrize("path", READ)
async def test_other_programs_are_told_401(two: Cluster, path: str) -> None:
    reply = await get(two.nodes[0].url, path)

    assert (reply.status, reply.code) == (401, "UNAUTHORIZED")


async def test_a_page_that_comes_anew_sends_the_browser_to_the_login(two: Cluster) -> None:
    reply = await ask(two, "/ops", headers={"HX-Request": "true"})

    assert (reply.status, reply.headers["HX-Redirect"]) == (401, "/ops/login")


@pytest.mark.parametrize(
    "made",
    # Made when the test runs: what is made when it is collected may have expired by then.
    [
        lambda: "",
        lambda: "not.a.token",
        lambda: client_headers("one.example")["Authorization"][7:],
        lambda: old_worker_headers()["Authorization"][7:],
        lambda: operator_token("olga", secret=CLIENT_SECRET),
        lambda: operator_token("olga", exp=1),
        lambda: operator_token("olga", scope="bff:api:access"),
    ],
)
async def test_no_other_token_is_one_of_an_operator(two: Cluster, made: Callable[[], str]) -> None:
    token = made()

    reply = await ask(two, "/ops/login", "POST", data={"token": token})

    assert reply.status in (401, 403)
    assert "Set-Cookie" not in reply.headers
    assert not token or token.encode() not in reply.raw


async def test_a_login_is_kept_by_a_cookie_that_no_script_and_no_other_site_has(
    two: Cluster,
) -> None:
    reply = await log_in(two)

    assert (reply.status, reply.headers["Location"]) == (303, "/ops/workers")
    said = reply.headers["Set-Cookie"]
    assert {"HttpOnly", "Path=/ops", "SameSite=Strict"} <= set(said.split("; "))
    assert "Secure" not in said
    for node in (0, 1):
        page = await ask(two, "/ops/workers", node=node, headers={"Cookie": cookie_of(reply)})
        assert page.status == 200
        assert b"olga" in page.raw


async def test_over_tls_the_cookie_goes_over_tls_only(two: Cluster) -> None:
    reply = await log_in(two, **{"X-Forwarded-Proto": "https"})

    assert "Secure" in reply.headers["Set-Cookie"].split("; ")


async def test_a_login_ends_when_its_token_does(two: Cluster) -> None:
    ends = int(time.time()) + 120
    cookie = cookie_of(await log_in(two, operator_token("olga", exp=ends))).partition("=")[2]
    late = operator_token("olga", exp=ends + 11 * 3600)
    long = cookie_of(await log_in(two, late)).partition("=")[2]

    def exp(token: str) -> int:
        return int(jwt.decode(token, INTERNAL_SECRET, ["HS256"], audience=AUDIENCE)["exp"])

    assert exp(cookie) == ends
    assert exp(long) <= time.time() + 8 * 3600


@pytest.mark.parametrize("aud", [AUDIENCE, "billing-stream/operator", None])
async def test_a_cookie_of_anothers_making_is_none(two: Cluster, aud: str | None) -> None:
    claims = {"aud": aud, "sub": "olga", "exp": int(time.time()) + 60, "jti": "x"}
    forged = jwt.encode({k: v for k, v in claims.items() if v}, CLIENT_SECRET, algorithm="HS256")
    no_cookie = operator_token("olga")
    for value in (forged, no_cookie):
        reply = await ask(two, "/ops", headers={"Cookie": f"{COOKIE}={value}"})
        assert reply.status == 303


async def test_a_cookie_opens_nothing_but_the_dashboard(two: Cluster) -> None:
    cookie = cookie_of(await log_in(two))
    token = {"Authorization": f"Bearer {cookie.partition('=')[2]}"}

    for path, method in (("/internal/adjustments", "POST"), ("/internal/ops/figures", "GET")):
        reply = await get(two.nodes[0].url, path, token, method=method, json={})
        assert reply.status == 401


@pytest.mark.parametrize("path", ["/internal/ops/figures", "/internal/ops/rows"])
async def test_figures_are_for_our_workers_only(two: Cluster, path: str) -> None:
    assert (await get(two.nodes[0].url, path)).status == 401
    assert (await get(two.nodes[0].url, path, operator_headers())).status == 401
    assert (await get(two.nodes[0].url, path, old_worker_headers())).status == 200


@pytest.mark.parametrize("csrf", ["", "0" * 64, None])
async def test_a_form_of_another_site_does_nothing(two: Cluster, csrf: str | None) -> None:
    cookie = cookie_of(await log_in(two))
    others = await csrf_of(two, cookie_of(await log_in(two)))
    for path in ACT:
        form = {**GIFT, "csrf": csrf if csrf is not None else others}
        reply = await ask(two, path, "POST", data=form, headers={"Cookie": cookie})
        assert reply.status == 403
        assert "Set-Cookie" not in reply.headers
    assert two.events("credits.adjusted") == []


async def test_what_the_browser_says_came_from_elsewhere_does_nothing(two: Cluster) -> None:
    cookie = cookie_of(await log_in(two))
    csrf = await csrf_of(two, cookie)
    elsewhere = {"Sec-Fetch-Site": "cross-site"}

    for path in (*ACT, "/ops/login"):
        form = {**GIFT, "csrf": csrf, "token": operator_token("olga")}
        headers = {"Cookie": cookie, **elsewhere}
        assert (await ask(two, path, "POST", data=form, headers=headers)).status == 403
    assert two.events("credits.adjusted") == []


async def test_with_its_own_token_a_form_acts_once(two: Cluster) -> None:
    cookie = cookie_of(await log_in(two))
    form = {**GIFT, "csrf": await csrf_of(two, cookie)}

    for node in (0, 1, 0):
        path = f"/ops/merchants/{M1}/adjust"
        reply = await ask(two, path, "POST", node=node, data=form, headers={"Cookie": cookie})
        assert reply.status == 303
    (event,) = two.events("credits.adjusted")
    assert event["credits"] == 25


async def test_programs_may_use_the_header_and_need_no_form_token(two: Cluster) -> None:
    page = await get(two.nodes[1].url, "/ops/workers", operator_headers())
    path = f"/ops/merchants/{M1}/adjust"
    done = await ask(two, path, "POST", data=GIFT, headers=operator_headers())

    assert (page.status, done.status) == (200, 303)
    assert len(two.events("credits.adjusted")) == 1


async def test_logging_out_takes_the_cookie_away(two: Cluster) -> None:
    cookie = cookie_of(await log_in(two))
    form = {"csrf": await csrf_of(two, cookie)}

    reply = await ask(two, "/ops/logout", "POST", data=form, headers={"Cookie": cookie})

    assert (reply.status, reply.headers["Location"]) == (303, "/ops/login")
    assert 'billing_ops="";' in reply.headers["Set-Cookie"]
    assert "Max-Age=0" in reply.headers["Set-Cookie"]
    other = cookie_of(await log_in(two))
    for node in (0, 1):
        for path in ("/ops/workers", f"/ops/merchants/{M1}/adjust"):
            kept = await ask(two, path, node=node, headers={"Cookie": cookie})
            assert (kept.status, b"one.example" in kept.raw) == (303, False)
        assert (await ask(two, "/ops", node=node, headers={"Cookie": other})).status == 200
    gift = {**GIFT, **form}
    path = f"/ops/merchants/{M1}/adjust"
    await ask(two, path, "POST", node=1, data=gift, headers={"Cookie": cookie})
    assert two.events("credits.adjusted") == []


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/ops//evil.example", "/api/x", "/ops\\x"]
)
async def test_after_a_login_nobody_is_led_elsewhere(two: Cluster, target: str) -> None:
    form = {"token": operator_token("olga"), "next": target}

    reply = await ask(two, "/ops/login", "POST", data=form)

    assert reply.headers["Location"] == "/ops"


@pytest.mark.parametrize("path", [*READ, "/ops/login"])
async def test_every_page_says_what_browsers_must_not_do(two: Cluster, path: str) -> None:
    for headers in ({}, operator_headers()):
        reply = await ask(two, path, headers=headers)

        policy = reply.headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "style-src 'self'"} <= set(policy)
        assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} <= set(policy)
        assert "unsafe" not in reply.headers["Content-Security-Policy"]
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
        # What the policy would keep from working.
        assert not re.search(rb"<script(?![^>]*\ssrc=)|\sstyle=|\son[a-z]+=", reply.raw)


async def test_what_others_wrote_is_no_markup(two: Cluster) -> None:
    path = "/ops/merchants?q=%3Cscript%3Ealert(1)%3C/script%3E%22%20onfocus=%22x"

    reply = await ask(two, path, headers=operator_headers())

    assert b"<script>alert" not in reply.raw
    assert b"&lt;script&gt;alert(1)" in reply.raw
    assert b'" onfocus' not in reply.raw


@pytest.mark.parametrize(
    "form",
    [
        {"credits": "0"},
        {"credits": "1.5"},
        {"credits": "1000001"},
        {"credits": "\u0661"},
        {"reason": ""},
        {"reason": "a" * 256},
        {"reason": "a\u202eb"},
    ],
)
async def test_what_is_wrong_in_a_form_is_said_and_changes_nothing(
    two: Cluster, form: dict[str, str]
) -> None:
    path = f"/ops/merchants/{M1}/adjust"

    reply = await ask(two, path, "POST", data={**GIFT, **form}, headers=operator_headers())

    assert reply.status == 422
    assert b'role="alert"' in reply.raw
    assert two.events("credits.adjusted") == []


async def test_only_the_few_files_of_the_pages_are_served(two: Cluster) -> None:
    for name in ("ops.css", "ops.js", "htmx.min.js", "icon.svg"):
        assert (await ask(two, f"/ops/static/{name}")).status == 200
    for name in ("..%2fserver.py", "htmx.license.txt", "base.html"):
        assert (await ask(two, f"/ops/static/{name}")).status == 404


def test_every_page_of_the_dashboard_is_looked_at_here() -> None:
    ours = {one.path for one in OPERATIONS if one.path.startswith("/ops")}
    kinds = {re.sub(r"\{[^{}]*(\{[^{}]*\}[^{}]*)*\}", "*", path) for path in ours}
    time_advanced_for = {re.sub(r"/(0@1|1{8}-[0-9-]+)", "/*", path) for path in (*READ, *ACT)}
    assert kinds == time_advanced_for | {"/ops/login", "/ops/static/*"}
