"""The one shape of every answer."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from billing_stream.domain.outcomes import ErrorCode
from billing_stream.web.envelope import STATUS, WebCode
from tests.support.nodes import Cluster, get
from tests.support.tokens import client_headers
from tests.web.conftest import M1

SHOP = "one.example"
# Their commands come by records alone.
OF_RECORDS = {
    ErrorCode.UNKNOWN_STATUS,
    ErrorCode.PAYMENT_MISMATCH,
    ErrorCode.TOO_MANY_REFUNDS,
}
MADE_UP = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_every_error_code_has_a_status() -> None:
    assert set(STATUS) == (set(ErrorCode) | set(WebCode)) - OF_RECORDS


def test_the_statuses_are_those_that_clients_know() -> None:
    known = {
        "MERCHANT_NOT_FOUND": 404,
        "PURCHASE_NOT_FOUND": 404,
        "TRIAL_ALREADY_USED": 409,
        "IDEMPOTENCY_KEY_REUSED": 409,
        "INVALID_PACK": 422,
        "UNKNOWN_PLATFORM": 422,
        "BAD_REQUEST": 400,
        "UNSUPPORTED_MEDIA_TYPE": 415,
        "TOO_MANY_REQUESTS": 429,
        "VALIDATION_ERROR": 422,
        "UNAUTHORIZED": 401,
        "FORBIDDEN": 403,
        "PLATFORM_ERROR": 502,
        "CHECKOUT_REFUSED": 422,
        "NOT_READY": 503,
    }

    assert {code: STATUS[code] for code in STATUS if code in known} == known


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("GET", "/api", 404, "NOT_FOUND"),
        ("GET", "/api/billing/nothing", 404, "NOT_FOUND"),
        ("POST", "/nothing", 404, "NOT_FOUND"),
        ("GET", "/router/", 404, "NOT_FOUND"),
        ("GET", "/table/", 404, "NOT_FOUND"),
        ("GET", "/stats/", 404, "NOT_FOUND"),
        ("POST", "/api/billing", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", f"/api/billing/purchases/{M1}", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", "/health", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/internal/queries", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/api/billing", 401, "UNAUTHORIZED"),
    ],
)
async def test_what_is_refused_has_the_same_shape(
    two: Cluster, method: str, path: str, status: int, code: str
) -> None:
    reply = await get(two.nodes[0].url, path, {"X-Request-ID": "r-1"}, method=method)

    assert (reply.status, reply.code) == (status, code)
    assert set(reply.body) == {"data", "error", "meta"}
    assert reply.body["data"] is None
    assert set(reply.body["error"]) == {"code", "message", "details"}
    assert reply.body["meta"]["request_id"] == "r-1"
    assert reply.headers["X-Request-ID"] == "r-1"
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    if status == 405:
        assert "GET" in reply.headers["Allow"]


@pytest.mark.logs_errors
async def test_a_fault_of_ours_tells_nothing_and_is_logged(
    two: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    await two.create(M1, SHOP)
    owner = two.owner(M1)
    for lane in owner.lanes.values():
        lane.processor.rows.merchants = None  # type: ignore[assignment]
    headers = client_headers(SHOP)

    reply = await get(owner.url, "/api/billing?secret=1", headers)

    assert (reply.status, reply.code) == (500, "INTERNAL_ERROR")
    assert "NoneType" not in str(reply.body)
    assert "a request to /api/billing failed" in caplog.text
    assert headers["Authorization"].split()[1] not in caplog.text
    assert "secret=1" not in caplog.text


async def test_good_answers_carry_the_ids_and_the_time(two: Cluster) -> None:
    await two.create(M1, SHOP)

    for node in two.nodes:
        reply = await node.get(
            "/api/billing", SHOP, X_Request_ID="req-1", X_Correlation_ID="corr/2"
        )

        assert reply.body["error"] is None
        assert set(reply.body) == {"data", "error", "meta"}
        meta = reply.body["meta"]
        assert (meta["request_id"], meta["correlation_id"]) == ("req-1", "corr/2")
        assert reply.headers["X-Request-ID"] == "req-1"
        assert reply.headers["X-Correlation-ID"] == "corr/2"
        assert datetime.now(UTC) - datetime.fromisoformat(meta["timestamp"]) < timedelta(seconds=5)
        assert meta["timestamp"].endswith("Z")


async def test_missing_ids_are_made_up_fresh(two: Cluster) -> None:
    first = await get(two.nodes[0].url, "/health")
    second = await get(two.nodes[0].url, "/health")

    ids = [reply.body["meta"]["request_id"] for reply in (first, second)]
    assert all(MADE_UP.fullmatch(found) for found in ids)
    assert ids[0] != ids[1]
    assert first.headers["X-Correlation-ID"] == first.body["meta"]["correlation_id"]


@pytest.mark.parametrize("odd", ["", " ", "a b", "x" * 129, "é", "a;b", '"', "<script>", "a\tb"])
async def test_ids_that_are_long_or_odd_are_replaced(two: Cluster, odd: str) -> None:
    sent = {"X-Request-ID": odd, "X-Correlation-ID": odd}

    reply = await get(two.nodes[0].url, "/health", sent)

    assert reply.status == 200
    assert MADE_UP.fullmatch(reply.headers["X-Request-ID"])
    assert MADE_UP.fullmatch(reply.headers["X-Correlation-ID"])


async def test_no_browser_of_another_origin_may_read_an_answer(two: Cluster) -> None:
    await two.create(M1, "one.example")
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}

    preflight = await get(two.nodes[0].url, "/api/billing", asked, method="OPTIONS")
    answer = await two.nodes[0].get("/api/billing", "one.example", Origin="https://shop.example")

    assert (preflight.status, answer.status) == (405, 200)
    for reply in (preflight, answer):
        assert not [name for name in reply.headers if name.startswith("Access-Control-")]
