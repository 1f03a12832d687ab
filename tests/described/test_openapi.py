"""The description of the HTTP API is well-formed, complete, and true of the service."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from openapi_spec_validator import OpenAPIV31SpecValidator

from billing_stream.platforms import custom
from billing_stream.platforms.base import PlatformEvent, PlatformEventKind
from billing_stream.platforms.signatures import sign
from billing_stream.web import described as described_by
from billing_stream.web import openapi, operators, server
from billing_stream.web.auth import SCOPE
from billing_stream.web.billing import StartTrialBody
from billing_stream.web.commands import COMMANDS_PATH
from billing_stream.web.envelope import STATUS
from billing_stream.web.measured import METRICS_PATH
from billing_stream.web.operators import ADJUSTMENTS_PATH, CLOCK_PATH
from billing_stream.web.ops.ops_views import OPS_PATH
from billing_stream.web.owners import QUERIES_PATH
from billing_stream.web.purchases import BuyBody
from tests.described.validation import (
    described,
    errors_at,
    operations,
    pointer,
    resolved,
    response_of,
    wrong_with,
)
from tests.support.nodes import Cluster, Reply, cluster, get
from tests.support.platform import no_checkout
from tests.support.tokens import client_headers, client_token, operator_headers

M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"
SHOP = "one.example"
BILLING = "/api/billing"
TRIALS = "/api/billing/trials"
PURCHASES = "/api/billing/purchases"
PURCHASE = "/api/billing/purchases/{purchase_id}"
WEBHOOK = "/webhooks/shopify"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://shop.example/back"}
# Between our processes, for Prometheus, pages for people, and the description itself.
NOT_DESCRIBED = (
    *(QUERIES_PATH, COMMANDS_PATH, "/internal/ops/", METRICS_PATH, OPS_PATH),
    *(one.path for one in described_by.OPERATIONS if one.path != described_by.INDEX_PATH),
)


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers that know one merchant, and not on which of them it is asked for."""
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as found:
        await found.create(M1, SHOP)
        yield found


def test_it_is_valid_openapi_3_1() -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(described()).iter_errors()] == []


def test_every_operation_for_clients_is_described_and_nothing_else() -> None:
    for_clients = {
        (openapi.template(one.path), one.method.lower())
        for one in (*server.OPERATIONS, *operators.TEST_OPERATIONS)
        if one.path != described_by.INDEX_PATH and not one.path.startswith(NOT_DESCRIBED)
    }

    assert {(path, method) for path, method, _ in operations()} == for_clients


def test_every_code_is_described_with_its_status() -> None:
    document = described()
    assert document["components"]["schemas"]["Code"]["enum"] == sorted(STATUS)
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", document["info"]["description"], re.MULTILINE)
    documented = {code: int(status) for status, codes in rows for code in codes.split(", ")}
    assert documented == {code: status.value for code, status in STATUS.items()}


def test_every_code_of_a_response_has_its_status() -> None:
    for path, method, operation in operations():
        for status in operation["responses"]:
            _, response = response_of(path, method, int(status))
            if int(status) >= 400:
                codes = response["content"]["application/json"]["examples"]
                assert codes
                assert {code for code in codes if STATUS[code] != int(status)} == set()


def test_every_operation_says_what_it_is_and_who_may_ask() -> None:
    ids = []
    for path, _, operation in operations():
        ids.append(operation["operationId"])
        assert operation["summary"]
        assert operation["description"]
        names = {resolved(p)[1]["name"] for p in operation["parameters"] if "$ref" in p}
        assert names >= {"X-Request-ID", "X-Correlation-ID"}
        if path.startswith("/api/"):
            assert operation["security"] == [{"clientToken": []}]
            assert names >= {"X-Shop-Platform", "X-Shop-Domain"}
            assert {"401", "403", "404", "429", "503"} <= set(operation["responses"])
    assert len(set(ids)) == len(ids)


def test_times_and_money_are_described_as_such() -> None:
    for name, schema in described()["components"]["schemas"].items():
        for field, form in schema.get("properties", {}).items():
            text = json.dumps(form)
            if field == "timestamp" or field.endswith("_at"):
                assert '"date-time"' in text, f"{name}.{field}"
            # A gateway may send a number, which is read as a decimal.
            if name != "GatewayWebhookBody" or field not in ("amount", "charge_amount"):
                assert '"number"' not in text, f"{name}.{field} is a float"


def test_every_example_is_as_described() -> None:
    shown = 0
    for path, method, operation in operations():
        places = [response_of(path, method, int(status)) for status in operation["responses"]]
        if "requestBody" in operation:
            places.append((pointer("paths", path, method, "requestBody"), operation["requestBody"]))
        for place, part in places:
            for name, example in part["content"]["application/json"].get("examples", {}).items():
                schema = place + pointer("content", "application/json", "schema")
                assert errors_at(schema, example["value"], closed=True) == [], (path, name)
                shown += 1
    assert shown > 50


@pytest.mark.parametrize(("path", "body"), [(TRIALS, StartTrialBody), (PURCHASES, BuyBody)])
def test_every_example_of_a_body_is_understood(path: str, body: Any) -> None:
    content = described()["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        msgspec.json.decode(msgspec.json.encode(example["value"]), type=body)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {**BUY, "more": 1},
        {**BUY, "platform": "paypal"},
        {**BUY, "pack": ""},
        {**BUY, "return_url": "javascript:alert(1)"},
        {**BUY, "return_url": "https://a.example/ b"},
        {**BUY, "return_url": 'https://a.example/"'},
        {**BUY, "return_url": "https://a.example/" + "a" * 2048},
        {**BUY, "idempotency_key": ""},
        {**BUY, "idempotency_key": "k" * 256},
    ],
)
async def test_what_the_description_forbids_is_refused(two: Cluster, body: Any) -> None:
    place = pointer("components", "schemas", "BuyBody")

    reply = await two.nodes[0].post(PURCHASES, SHOP, body)

    assert errors_at(place, body) != []
    assert (reply.status, reply.code) == (422, "VALIDATION_ERROR")
    assert wrong_with(PURCHASES, "post", reply) == []


async def test_good_answers_are_as_described(two: Cluster) -> None:
    for node in two.nodes:
        opened = await node.post(PURCHASES, SHOP, BUY)
        one = await node.get(f"{PURCHASES}/{opened.data['purchase_id']}", SHOP)
        for path, method, reply in [
            (PURCHASES, "post", opened),
            (PURCHASE, "get", one),
            (BILLING, "get", await node.get(BILLING, SHOP)),
            (TRIALS, "get", await node.get(TRIALS, SHOP)),
            (PURCHASES, "get", await node.get(f"{PURCHASES}?page=2&limit=1", SHOP)),
            ("/health", "get", await node.get("/health")),
            ("/ready", "get", await node.get("/ready")),
        ]:
            assert reply.status in (200, 201)
            assert wrong_with(path, method, reply) == []
    started = await two.nodes[0].post(TRIALS, SHOP)
    again = await two.nodes[1].post(TRIALS, SHOP)
    running = await two.nodes[1].get(BILLING, SHOP)

    assert (started.status, again.status) == (201, 409)
    assert wrong_with(TRIALS, "post", started) == []
    assert wrong_with(TRIALS, "post", again) == []
    assert wrong_with(BILLING, "get", running) == []


async def test_operators_are_answered_as_described(two: Cluster) -> None:
    adjust = {"merchant_id": M1, "credits": 5, "reason": "a gift", "idempotency_key": "k"}
    clock = {"merchant_id": M1, "forward": "1d"}
    asked: list[tuple[str, Any, int]] = [
        (ADJUSTMENTS_PATH, adjust, 201),
        (ADJUSTMENTS_PATH, {**adjust, "credits": 6}, 409),
        (ADJUSTMENTS_PATH, {**adjust, "credits": -6, "idempotency_key": "l"}, 409),
        (ADJUSTMENTS_PATH, {**adjust, "merchant_id": M2}, 404),
        (ADJUSTMENTS_PATH, {**adjust, "credits": 0}, 422),
        (CLOCK_PATH, clock, 200),
        (CLOCK_PATH, {**clock, "forward": "4000d"}, 422),
        (CLOCK_PATH, {**clock, "merchant_id": M2}, 404),
    ]
    for node in two.nodes:
        for path, body, status in asked:
            headers = operator_headers()
            reply = await get(node.url, path, headers, method="POST", json=body)
            assert (path, body, reply.status) == (path, body, status)
            assert wrong_with(path, "post", reply) == []
            refused = await get(node.url, path, client_headers(SHOP), method="POST", json=body)
            assert refused.status == 401
            assert wrong_with(path, "post", refused) == []
    billing = await two.nodes[0].get(BILLING, SHOP)
    assert billing.data["credits_adjusted"] == 5
    assert wrong_with(BILLING, "get", billing) == []


@pytest.mark.parametrize("path", [BILLING, TRIALS, PURCHASES, PURCHASE])
async def test_refusals_of_reading_are_as_described(two: Cluster, path: str) -> None:
    asked = path.replace("{purchase_id}", M2)
    forged = client_token(SHOP, secret="x" * 32)
    no_scope = client_token(SHOP, scope=SCOPE + "x")
    for node in two.nodes:
        for status, headers in [
            (401, {}),
            (401, client_headers(SHOP, token=forged)),
            (400, {**client_headers(SHOP), "X-Shop-Platform": "a:b"}),
            (422, {**client_headers(SHOP), "X-Shop-Platform": "ebay"}),
            (403, client_headers(SHOP, token=no_scope)),
            (403, {**client_headers(SHOP), "X-Shop-Domain": "two.example"}),
            (404, client_headers("nobody.example")),
        ]:
            reply = await get(node.url, asked, headers)
            assert reply.status == status
            assert wrong_with(path, "get", reply) == []


async def test_refusals_of_one_purchase_and_of_pages_are_as_described(two: Cluster) -> None:
    node = two.nodes[0]
    unknown = await node.get(f"{PURCHASES}/{M2}", SHOP)
    malformed = await node.get(f"{PURCHASES}/xyz", SHOP)

    assert (unknown.code, malformed.code) == ("PURCHASE_NOT_FOUND", "NOT_FOUND")
    assert wrong_with(PURCHASE, "get", unknown) == []
    assert wrong_with(PURCHASE, "get", malformed) == []
    for query in ("page=0", "page=x", "limit=101", "limit=-1", "page=1000001"):
        reply = await node.get(f"{PURCHASES}?{query}", SHOP)
        assert reply.status == 422
        assert wrong_with(PURCHASES, "get", reply) == []


async def test_refusals_of_commands_are_as_described(two: Cluster) -> None:
    node = two.nodes[0]
    two.platform.errors.append(no_checkout("no access token"))
    refused = await node.post(PURCHASES, SHOP, BUY)
    pack = await node.post(PURCHASES, SHOP, {**BUY, "pack": "tiny"})
    await node.post(PURCHASES, SHOP, BUY, Idempotency_Key="k")
    reused = await node.post(PURCHASES, SHOP, {**BUY, "pack": "large"}, Idempotency_Key="k")
    large = await node.post(PURCHASES, SHOP, {**BUY, "return_url": "x" * 400_000})

    text = await node.post(PURCHASES, SHOP, BUY, Content_Type="text/plain")

    for status, code, reply in [
        (415, "UNSUPPORTED_MEDIA_TYPE", text),
        (502, "PLATFORM_ERROR", refused),
        (422, "INVALID_PACK", pack),
        (409, "IDEMPOTENCY_KEY_REUSED", reused),
        (413, "BODY_TOO_LARGE", large),
    ]:
        assert (reply.status, reply.code) == (status, code)
        assert wrong_with(PURCHASES, "post", reply) == []


async def test_an_answer_that_did_not_come_in_time_is_as_described(tmp_path: Path) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, BILLING_REQUEST_DEADLINE="1s") as one:
        await one.create(M1, SHOP)
        one.platform.open.clear()
        reply = await one.nodes[0].post(PURCHASES, SHOP, BUY)
        one.platform.open.set()

    assert reply.status == 504
    assert wrong_with(PURCHASES, "post", reply) == []


async def test_too_many_requests_are_told_to_wait_as_described(tmp_path: Path) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, BILLING_REQUESTS_PER_MINUTE="1") as one:
        await one.create(M1, SHOP)
        replies = [await one.nodes[0].get(BILLING, SHOP) for _ in range(3)]

    assert [reply.status for reply in replies][1:] == [429, 429]
    assert wrong_with(BILLING, "get", replies[-1]) == []


async def test_too_many_webhooks_are_rejected_as_described(tmp_path: Path) -> None:
    async with cluster(str(tmp_path), {0: [0, 1, 2, 3]}, BILLING_WEBHOOKS_PER_MINUTE="1") as one:
        url, good = one.nodes[0].url, {"X-Good": "yes"}
        replies = [await get(url, WEBHOOK, good, method="POST", data=b"null") for _ in range(3)]

    assert [reply.status for reply in replies][1:] == [429, 429]
    assert wrong_with(WEBHOOK, "post", replies[-1]) == []


async def test_while_partitions_move_the_answers_are_as_described(two: Cluster) -> None:
    for node in two.nodes:
        await node.lanes.pause()
    replies: list[tuple[str, str, Reply]] = []
    for node in two.nodes:
        for path in (BILLING, TRIALS, PURCHASES):
            replies.append((path, "get", await node.get(path, SHOP)))
        replies.append((PURCHASE, "get", await node.get(f"{PURCHASES}/{M2}", SHOP)))
        replies.append((TRIALS, "post", await node.post(TRIALS, SHOP)))
        replies.append((PURCHASES, "post", await node.post(PURCHASES, SHOP, BUY)))
        replies.append(("/ready", "get", await node.get("/ready")))

    assert {reply.status for _, _, reply in replies} == {503}
    assert [wrong_with(*reply) for reply in replies] == [[]] * len(replies)


async def test_answers_to_webhooks_are_as_described(two: Cluster) -> None:
    node = two.nodes[0]
    kind = PlatformEventKind.UPDATED
    told = PlatformEvent(kind=kind, charge_id="c-1", status="active", merchant_id=M1)
    good = {"X-Good": "yes"}
    bodies: list[tuple[int, dict[str, str], bytes]] = [
        (200, good, msgspec.json.encode(told)),
        (200, good, b"null"),
        (200, good, b"not understood"),
        (401, {}, b"{}"),
        (413, good, b"x" * 400_000),
    ]
    for status, headers, body in bodies:
        reply = await get(node.url, WEBHOOK, headers, method="POST", data=body)
        assert reply.status == status
        assert wrong_with(WEBHOOK, "post", reply) == []
    node.ingress.up = False
    late = await get(node.url, WEBHOOK, good, method="POST", data=msgspec.json.encode(told))
    unset = await get(node.url, "/webhooks/custom", good, method="POST", data=b"{}")

    assert (late.status, unset.status) == (503, 404)
    assert wrong_with(WEBHOOK, "post", late) == []
    assert wrong_with("/webhooks/custom", "post", unset) == []


def test_a_gateway_that_tells_what_is_described_is_understood() -> None:
    path = "/webhooks/custom"
    secret = "custom-secret-for-tests-0123456789"
    now = datetime.now(UTC)
    content = described()["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    for name, example in content["examples"].items():
        body = msgspec.json.encode(example["value"])
        headers = {custom.SIGNATURE: sign(secret, body, now)}
        told = custom.read_webhook(headers, body, now, [secret])
        assert told.charge_id == example["value"]["charge_id"]
        assert (told.kind is PlatformEventKind.REFUNDED) == (name == "refunded")
