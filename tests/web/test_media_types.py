"""A body is JSON, and is not read as JSON where it is declared as something else."""

import json

import pytest

from billing_stream.records.topics import JOURNAL
from tests.support.nodes import Cluster, get
from tests.support.tokens import client_headers, operator_headers
from tests.web.conftest import M1

DOMAIN = "one.example"
TRIALS, ADJUSTMENTS, CLOCK = "/api/billing/trials", "/internal/adjustments", "/internal/clock"
BODIES = {
    "/api/billing/purchases": {
        "pack": "small",
        "platform": "shopify",
        "return_url": "https://one.example/back",
    },
    TRIALS: {"idempotency_key": "k"},
    ADJUSTMENTS: {"merchant_id": M1, "credits": 5, "reason": "r", "idempotency_key": "k"},
    CLOCK: {"merchant_id": M1, "forward": "1d"},
}


async def post(cluster: Cluster, path: str, content_type: str | None) -> int:
    headers = client_headers(DOMAIN) if path.startswith("/api") else operator_headers()
    skipped = [] if content_type else ["Content-Type"]
    if content_type:
        headers["Content-Type"] = content_type
    reply = await get(
        cluster.nodes[0].url,
        path,
        headers,
        method="POST",
        data=json.dumps(BODIES[path]).encode(),
        skip_auto_headers=skipped,
    )
    if reply.status == 415:
        assert reply.code == "UNSUPPORTED_MEDIA_TYPE"
    return reply.status


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "content_type",
    [
        *("text/plain", "text/json", "application/x-www-form-urlencoded", "application/xml"),
        *("multipart/form-data; boundary=x", "application/jsonp", "application/octet-stream"),
        *("text/plain; application/json", "json", "application/json, text/plain"),
    ],
)
async def test_a_body_of_another_kind_is_refused_and_changes_nothing(
    two: Cluster, path: str, content_type: str
) -> None:
    await two.create(M1, DOMAIN)
    before = len(two.log.read(JOURNAL))

    assert await post(two, path, content_type) == 415

    assert len(two.log.read(JOURNAL)) == before


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "content_type",
    [
        *("application/json", "application/json; charset=utf-8", "APPLICATION/JSON;charset=UTF-8"),
        *("application/vnd.billing+json", None),
    ],
)
async def test_json_by_any_of_its_names_is_accepted(
    two: Cluster, path: str, content_type: str | None
) -> None:
    await two.create(M1, DOMAIN)

    assert await post(two, path, content_type) in (200, 201)


async def test_who_it_is_comes_before_the_kind_of_the_body(two: Cluster) -> None:
    reply = await get(
        two.nodes[0].url, TRIALS, {"Content-Type": "text/plain"}, method="POST", data=b"{}"
    )
    assert reply.status == 401
