"""Records that other producers write: processed as usual, or a dead letter; never the end."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from billing_stream.domain.decide import decide
from billing_stream.ops.dead_letters.entries import letter_of
from billing_stream.records import topics as names
from billing_stream.records.schemas import FORWARDED_TOPIC, REDRIVEN_FROM
from tests.support.partition import Partition, record
from tests.support.world import M1

CREATED = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Microseconds instead of milliseconds.
TOO_LATE = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)


async def known(value: Any, topic: str = names.MERCHANT_CREATED, **fields: Any) -> Partition:
    """A partition that has read this record. It has neither stopped nor made a dead letter."""
    partition = await Partition().restart()
    await partition.feed(record(topic, 0, value, **fields))
    assert partition.deaths.causes == []
    assert partition.dead_letters() == []
    return partition


@pytest.mark.parametrize(
    "more",
    [
        {"data": None},
        {"data": {}},
        {"data": {"any": "thing"}},
        {"data": [1]},
        {"data": "text", "event_id": "e-1"},
    ],
    ids=str,
)
async def test_bare_payload_may_have_a_field_named_data(more: dict[str, Any]) -> None:
    partition = await known({**CREATED, **more})
    assert M1 in partition.processor.rows.merchants


async def test_envelope_may_name_the_merchant_as_well() -> None:
    partition = await known({"merchant_id": "something else", "data": CREATED})
    assert M1 in partition.processor.rows.merchants


@pytest.mark.parametrize("value", [CREATED, {"data": CREATED}], ids=["bare", "envelope"])
async def test_byte_order_mark_is_ignored(value: Any) -> None:
    partition = await known(BYTE_ORDER_MARK + json.dumps(value).encode())
    assert M1 in partition.processor.rows.merchants


@pytest.mark.parametrize("name", [FORWARDED_TOPIC, REDRIVEN_FROM, "traceparent", "x"])
async def test_header_without_a_value_counts_as_absent(name: str) -> None:
    command = {
        "command": "create_merchant",
        "merchant_id": M1,
        "platform": "shopify",
        "domain": "one.example",
    }
    partition = await known(command, names.COMMANDS, headers=[(name, None)])
    assert M1 in partition.processor.rows.merchants


async def test_dead_letter_keeps_a_header_without_a_value() -> None:
    partition = await Partition().restart()
    await partition.feed(record(names.PURCHASE_UPDATED, 0, b"{", headers=[("x", None)]))

    (letter,) = partition.dead_letters()
    assert letter["headers"] == [["x", None]]
    raw = json.dumps(letter).encode()
    entry = letter_of(record(names.DEAD_LETTERS, 0, raw))
    assert entry.record.headers == [("x", None)]
    assert entry.record.value == b"{"


@pytest.mark.parametrize("timestamp", [TOO_LATE, -TOO_LATE, 2**62])
async def test_timestamp_out_of_range_is_a_dead_letter(timestamp: int) -> None:
    partition = await Partition().restart()
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED, timestamp=timestamp))
    await partition.feed(record(names.MERCHANT_CREATED, 1, CREATED))

    (letter,) = partition.dead_letters()
    assert letter["reason"] == f"the timestamp {timestamp} is not in milliseconds"
    assert M1 in partition.processor.rows.merchants
    assert partition.deaths.causes == []


@pytest.mark.logs_errors
async def test_record_on_which_a_rule_fails_is_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()

    def broken(state: Any, command: Any, now: Any) -> Any:
        if getattr(command, "domain", "") == "bad.example":
            raise ZeroDivisionError
        return decide(state, command, now)

    monkeypatch.setattr("billing_stream.processor.decide", broken)
    bad = {**CREATED, "domain": "bad.example"}
    await partition.feed(record(names.MERCHANT_CREATED, 0, bad))
    await partition.feed(record(names.MERCHANT_CREATED, 1, CREATED))

    (letter,) = partition.dead_letters()
    assert letter["reason"] == "INTERNAL_ERROR: ZeroDivisionError"
    assert json.loads(base64.b64decode(letter["value"])) == bad
    assert M1 in partition.processor.rows.merchants
    assert partition.deaths.causes == []


@pytest.mark.parametrize("error", [MemoryError(), OSError("disk"), Exception("of the store")])
async def test_what_no_record_causes_ends_the_worker(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = await Partition().restart()

    def broken(*_: Any) -> Any:
        raise error

    monkeypatch.setattr("billing_stream.processor.decide", broken)
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))

    assert [found for _, found in partition.deaths.causes] == [error]
    assert partition.dead_letters() == []
