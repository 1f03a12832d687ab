"""Every refusal for an input names it, its rule and what is allowed: all codes of the API."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.domain.commands import CreateMerchant
from billing_stream.web import openapi
from tests.described.validation import described, wrong_with
from tests.support.nodes import Cluster, Reply, cluster, get
from tests.support.tokens import client_headers, client_token, operator_headers
from tests.web.conftest import M1

SHOP = "one.example"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://shop.example/back"}
PURCHASES, ADJUSTMENTS = "/api/billing/purchases", "/internal/adjustments"
EXTENSIONS, SHOPS, CLOCK = "/internal/trial-extensions", "/internal/shops", "/internal/clock"
FOR_M1 = {"merchant_id": M1, "reason": "a try", "idempotency_key": "k"}
SET = {**FOR_M1, "platform": "shopify", "domain": SHOP}
KIND = {"Content-Type": "application/json"}
# Of each code that is about an input: what is asked, which input it is, its rule, what is allowed.
ABOUT_AN_INPUT: dict[str, list[tuple[str, dict[str, Any], str, str, str]]] = {
    "VALIDATION_ERROR": [
        (PURCHASES, {"json": {**BUY, "platform": "x"}}, "platform", "choice", "shopify, stripe"),
        (PURCHASES, {"params": {"limit": "101"}}, "limit", "range", "from 1 to 100"),
        (PURCHASES, {"params": {"cursor": "!"}}, "cursor", "format", "next_cursor"),
        (ADJUSTMENTS, {"json": {**FOR_M1, "credits": 0}}, "credits", "range", "not be 0"),
    ],
    "INVALID_PACK": [
        (PURCHASES, {"json": {**BUY, "pack": "xs"}}, "pack", "choice", "small, medium, large"),
        (PURCHASES, {"json": {**BUY, "currency": "JPY"}}, "currency", "choice", "one of USD"),
    ],
    "UNKNOWN_PLATFORM": [
        (PURCHASES, {"json": {**BUY, "platform": "custom"}}, "platform", "choice", "shopify"),
        (
            PURCHASES,
            {"headers": {"X-Shop-Platform": "ebay"}},
            *("X-Shop-Platform", "choice", "one of shopify, stripe, custom"),
        ),
    ],
    "INVALID_SHOP": [
        (SHOPS, {"json": {**SET, "platform": "a b"}}, "platform", "format", "1 to 64 letters"),
        (SHOPS, {"json": {**SET, "domain": "12345"}}, "domain", "format", "last part is a number"),
        (SHOPS, {"json": {**SET, "domain": "a@b"}}, "domain", "format", "has an @"),
    ],
    "INVALID_TRIAL_END": [
        (
            EXTENSIONS,
            {"json": {**FOR_M1, "ends_at": "2020-01-01T00:00:00Z"}},
            *("ends_at", "range", "must end the trial after 20"),
        ),
        (EXTENSIONS, {"json": {**FOR_M1, "days": 3653}}, "days", "range", "within ten years"),
    ],
    "CLOCK_REFUSED": [
        (
            CLOCK,
            {"json": {"merchant_id": M1, "to": "2999-01-01T00:00:00Z"}},
            *("to", "range", "within ten years"),
        ),
        (
            CLOCK,
            {"json": {"merchant_id": M1, "forward": "4000d"}},
            *("forward", "range", "within ten years"),
        ),
    ],
    "INSUFFICIENT_CREDITS": [
        (ADJUSTMENTS, {"json": {**FOR_M1, "credits": -5}}, "credits", "range", "at least 0"),
    ],
    "IDEMPOTENCY_KEY_REUSED": [
        (
            PURCHASES,
            {"json": {**BUY, "pack": "large", "idempotency_key": "used"}},
            *("idempotency_key", "conflict", "with other parameters"),
        ),
    ],
    "BAD_REQUEST": [
        (PURCHASES, {"data": b"{", "headers": KIND}, "", "format", "must be JSON"),
        (
            PURCHASES,
            {"headers": {"X-Shop-Platform": ""}},
            *("X-Shop-Platform", "required", "is missing"),
        ),
        (
            PURCHASES,
            {"headers": {"X-Shop-Domain": "a b"}},
            *("X-Shop-Domain", "format", "the host name of a shop"),
        ),
    ],
    "FORBIDDEN": [
        (
            PURCHASES,
            {"headers": {"X-Shop-Domain": "two.example"}},
            *("X-Shop-Domain", "conflict", "the token is for"),
        ),
        (
            PURCHASES,
            {"claims": {"platform": "stripe"}},
            *("X-Shop-Platform", "conflict", "the token is for"),
        ),
    ],
    "BODY_TOO_LARGE": [
        (PURCHASES, {"data": b"x" * 400_000, "headers": KIND}, "", "length", "at most"),
    ],
    "UNSUPPORTED_MEDIA_TYPE": [
        (
            PURCHASES,
            {"data": b"{}", "headers": {"Content-Type": "text/plain"}},
            *("Content-Type", "choice", "application/json"),
        ),
    ],
}
# These are about what is there or not, the state of a merchant, or the service.
OTHERS = {
    *("MERCHANT_NOT_FOUND", "PURCHASE_NOT_FOUND", "NOT_FOUND", "METHOD_NOT_ALLOWED"),
    *("TRIAL_ALREADY_USED", "TRIAL_NOT_EXTENDABLE", "MERCHANT_UNINSTALLED", "CHARGE_MISMATCH"),
    *("TOO_MANY_REQUESTS", "TOO_MANY_OPEN_PURCHASES", "UNAUTHORIZED", "PLATFORM_ERROR"),
    *("NOT_READY", "OUTCOME_UNKNOWN", "INTERNAL_ERROR"),
    # The platform's own words, which name no field.
    "CHECKOUT_REFUSED",
}


@pytest_asyncio.fixture
async def asked(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers, and a merchant with a trial and a used key."""
    async with cluster(str(tmp_path), {0: [0, 1], 1: [2, 3]}) as found:
        await found.do(CreateMerchant(M1, "shopify", SHOP, "create"))
        await found.tell_shops()
        node = found.nodes[0]
        assert (await node.post("/api/billing/trials", SHOP)).status == 201
        used = await node.post(PURCHASES, SHOP, BUY, Idempotency_Key="used")
        assert used.status == 201
        yield found


async def ask(url: str, path: str, options: dict[str, Any]) -> Reply:
    token = client_token(SHOP, **options.get("claims", {}))
    usual = client_headers(SHOP, token=token) if path.startswith("/api/") else operator_headers()
    options = {name: value for name, value in options.items() if name != "claims"}
    headers = {**usual, **options.get("headers", {})}
    method = "POST" if {"json", "data"} & set(options) else "GET"
    return await get(url, path, method=method, **{**options, "headers": headers})


def test_every_code_of_the_description_is_here() -> None:
    codes = described()["components"]["schemas"]["Code"]["enum"]

    assert sorted({*ABOUT_AN_INPUT, *OTHERS}) == codes
    assert not OTHERS & set(ABOUT_AN_INPUT)


@pytest.mark.parametrize("code", ABOUT_AN_INPUT)
async def test_every_code_about_an_input_names_it_and_its_rule(asked: Cluster, code: str) -> None:
    for node in asked.nodes:
        for path, options, field, rule, allowed in ABOUT_AN_INPUT[code]:
            reply = await ask(node.url, path, options)

            assert reply.code == code, reply.body
            error = reply.body["error"]
            (detail,) = error["details"]
            assert (detail["field"], detail["rule"]) == (field, rule)
            assert allowed in detail["message"]
            assert detail["message"] == error["message"]
            method = "post" if {"json", "data"} & set(options) else "get"
            assert wrong_with(path, method, reply) == []


@pytest.mark.parametrize("code", [*ABOUT_AN_INPUT, *sorted(OTHERS)])
def test_every_example_has_details_as_the_answers_have(code: str) -> None:
    shown = [
        example["value"]["error"]
        for one in openapi.document()["components"]["responses"].values()
        for name, example in one["content"]["application/json"]["examples"].items()
        if name == code
    ]

    # Only /ready says more of why it is not: its problems.
    fields = [one["details"] for one in shown if not isinstance(one["details"], dict)]
    if code in ABOUT_AN_INPUT and code != "FORBIDDEN":
        assert fields
        known = {(field, rule) for _, _, field, rule, _ in ABOUT_AN_INPUT[code]}
        known |= {("days", "range")} if code == "VALIDATION_ERROR" else set()
        assert all((one["field"], one["rule"]) in known for (one,) in fields)
    else:
        assert all(one is None for one in fields)
