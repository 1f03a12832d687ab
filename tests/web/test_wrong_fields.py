"""Whatever is wrong with a body, the answer names the field and the rule in words."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from msgspec import inspect

from billing_stream.records.invalid_fields import Rule, invalid_field
from billing_stream.records.json_schemas import inputs
from billing_stream.web import catalogue, openapi, operators, purchases
from billing_stream.web.operation import Operation
from tests.support.nodes import Cluster, cluster, get
from tests.support.tokens import client_headers, operator_headers
from tests.web.conftest import M1

SHOP = "one.example"
BODIES = [one for one in openapi.OPERATIONS if "body" in one.takes]
# What no message may have: words of a validator, of Python, of regular expressions.
RAW = re.compile(r"Expected|`\$|regex|\\|\^|\{|`(str|int|object|array|datetime)`|msgspec|pydantic")
# None of these is right for any field of any body.
WRONG: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**40,
    "",
    "\n",
    "é",
    "x" * 3000,
    [],
    [1],
    {},
    {"a": 1},
]


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(
        str(tmp_path), {0: [0, 1, 2, 3]}, BILLING_REQUESTS_PER_MINUTE="10000"
    ) as found:
        await found.create(M1, SHOP)
        yield found


def example_of(operation: Operation) -> dict[str, Any]:
    first, *_ = openapi.described(operation).body_examples.values()
    found: dict[str, Any] = msgspec.to_builtins(first)
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("operation", BODIES, ids=[one.path for one in BODIES])
async def test_every_wrong_value_of_every_field_is_named_in_words(
    shop: Cluster, operation: Operation
) -> None:
    is_client = operation.path.startswith("/api/")
    headers = client_headers(SHOP) if is_client else operator_headers()
    fields = [field.name for field in msgspec.structs.fields(operation.body)]
    bodies = [
        ({**example_of(operation), name: value}, name) for name in fields for value in WRONG
    ] + [({**example_of(operation), "more": 1}, "more")]
    refused = 0
    for body, name in bodies:
        reply = await get(
            shop.nodes[0].url, operation.path, headers, method=operation.method, json=body
        )
        if reply.status == 422 and reply.code == "VALIDATION_ERROR":
            refused += 1
            error = reply.body["error"]
            (wrong,) = error["details"]
            assert set(wrong) == {"field", "rule", "message"}
            assert wrong["rule"] in set(Rule)
            assert wrong["message"] == error["message"]
            assert not RAW.search(error["message"]), error["message"]
            pair = {"ends_at": "days", "days": "ends_at", "to": "forward", "forward": "to"}
            assert wrong["field"].split(".")[0] in (name, pair.get(name)), (body, error)
    assert refused > 5 * len(fields)


def test_each_missing_field_is_named() -> None:
    for operation in BODIES:
        for field in msgspec.structs.fields(operation.body):
            if field.required:
                body = example_of(operation)
                del body[field.name]
                with pytest.raises(msgspec.ValidationError) as raised:
                    msgspec.convert(body, operation.body)
                found = invalid_field(str(raised.value))
                assert (found.field, found.rule) == (field.name, Rule.REQUIRED)


def patterns(types: Any) -> Iterator[str]:
    """The regular expressions that values of these types are to match."""
    for found in inspect.multi_type_info(types):
        yield from patterns_in(found, set())


def patterns_in(found: Any, seen: set[Any]) -> Iterator[str]:
    if isinstance(found, inspect.StrType) and found.pattern is not None:
        yield found.pattern
    if isinstance(found, inspect.StructType):
        if found.cls in seen:
            return
        seen.add(found.cls)
        for field in found.fields:
            yield from patterns_in(field.type, seen)
    for name in ("types", "item_types"):
        for inner in getattr(found, name, ()):
            yield from patterns_in(inner, seen)
    for name in ("key_type", "value_type", "item_type", "type"):
        if (inner := getattr(found, name, None)) is not None:
            yield from patterns_in(inner, seen)


def test_every_pattern_of_bodies_and_records_has_words() -> None:
    read = [kind for record in inputs() for kind in record.types]
    found = set(patterns([one.body for one in openapi.OPERATIONS if one.body] + read))

    assert len(found) >= 5
    for pattern in found:
        said = invalid_field(f"Expected `str` matching regex {pattern!r} - at `$.x`")
        assert "documented form" not in said.message, pattern
        assert not RAW.search(said.message)


@pytest.mark.parametrize(
    ("body", "kind", "field", "rule", "message"),
    [
        (
            {"platform": "paypal", "pack": "small", "return_url": "https://a.example"},
            *(purchases.BuyBody, "platform", "choice"),
            "`platform` must be one of shopify, stripe, custom",
        ),
        ({"merchant_id": "7"}, operators.ClockBody, "merchant_id", "format", "must be a UUID"),
        (
            {"packs": {"a": {"credits": 5, "price": {"USD": 1.5}}}, "reason": "x"},
            *(catalogue.CatalogueBody, "packs.*.price.*", "type", "must be text, not a decimal"),
        ),
        ({"\x1b[2J": 1}, operators.ClockBody, "", "unknown_field", "the value is not a field"),
        (
            {"merchant_id": M1, "to": "2027-01-01T00:00:00"},
            *(operators.ClockBody, "to", "format", "`to` must have an offset from UTC"),
        ),
    ],
)
def test_messages_name_field_and_rule_and_show_no_value(
    body: Any, kind: Any, field: str, rule: str, message: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.json.decode(msgspec.json.encode(body), type=kind)

    found = invalid_field(str(raised.value), kind)

    assert (found.field, found.rule) == (field, rule)
    assert message in found.message
    assert "\x1b" not in found.message
    assert "paypal" not in found.message


async def test_what_is_made_is_found_at_its_location(shop: Cluster) -> None:
    buy = {"pack": "small", "platform": "shopify", "return_url": "https://a.example/back"}
    node = shop.nodes[0]
    bought = await node.post("/api/billing/purchases", SHOP, buy, Idempotency_Key="k")
    again = await node.post("/api/billing/purchases", SHOP, buy, Idempotency_Key="k")
    started = await node.post("/api/billing/trials", SHOP)

    purchase = await node.get(bought.headers["Location"], SHOP)
    trial = await node.get(started.headers["Location"], SHOP)

    assert purchase.data["id"] == bought.data["purchase_id"]
    assert again.headers["Location"] == bought.headers["Location"]
    assert trial.data["ends_at"] == started.data["ends_at"]
    for operation in openapi.OPERATIONS:
        located = openapi.described(operation).location
        path = openapi.template(operation.path)
        good = openapi.document()["paths"][path][operation.method.lower()]["responses"]
        assert ("Location" in good[str(operation.status.value)]["headers"]) == located
