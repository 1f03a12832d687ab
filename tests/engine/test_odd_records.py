"""Records that other producers write: processed as usual, or a dead letter; never the end."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import UNSET

from billing_stream.domain.decide import decide
from billing_stream.ops.dead_letters.entries import letter_of
from billing_stream.records import topics as names
from billing_stream.records.dead_letters import record_sha256
from billing_stream.records.examples import CHARGE_ID, examples
from billing_stream.records.forwarding import FORWARDED_TOPIC, REDRIVEN_FROM
from billing_stream.records.timestamps import TIMESTAMP_MAX, TIMESTAMP_MIN
from billing_stream.records.unreadable import UNREADABLE, unreadable
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


CUT = b'{"name": "cut: \\ud83d", "n": "\\udc00\\ud83d\\ude00\\\\ud83d", "\\uD83D": 1, '


@pytest.mark.parametrize(
    "odd",
    [
        CUT,
        b'{"name": "\\ud83d", ',
        b'{"name": "caf\xe9", ',
        b'{"na\xe9": 1, ',
        b'{"correlation_id": "caf\xe9", ',
        b'{"event_type": "\xff", ',
    ],
    ids=str,
)
@pytest.mark.parametrize("enveloped", [False, True])
async def test_fields_that_nobody_reads_may_hold_any_text(odd: bytes, enveloped: bool) -> None:
    rest = {"data": CREATED} if enveloped else CREATED
    partition = await known(odd + json.dumps(rest).encode()[1:])
    assert M1 in partition.processor.rows.merchants


@pytest.mark.parametrize(
    ("domain", "reason"),
    [
        (b"a\\ud83d.example", "domain contains half of a character"),
        (b"caf\xe9.example", "a text is not UTF-8: 'caf\\xe9.example'"),
    ],
)
async def test_text_that_is_read_must_be_whole(domain: bytes, reason: str) -> None:
    partition = await Partition().restart()
    value = json.dumps(CREATED).encode().replace(b"one.example", domain)
    await partition.feed(record(names.MERCHANT_CREATED, 0, value))

    (letter,) = partition.dead_letters()
    assert letter["reason"] == reason
    assert base64.b64decode(letter["value"]) == value


async def test_text_within_a_list_must_be_whole_too() -> None:
    (command,) = [e.value for e in examples()[names.COMMANDS] if e.name == "import_merchant"]
    raw = json.dumps(command).replace(CHARGE_ID, "cut \\ud83d").encode()
    partition = await Partition().restart()
    await partition.feed(record(names.COMMANDS, 0, raw))

    (letter,) = partition.dead_letters()
    assert letter["reason"] == "purchases contains half of a character"


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


@pytest.mark.parametrize(
    "timestamp", [TOO_LATE, -TOO_LATE, 2**62, TIMESTAMP_MAX + 1, TIMESTAMP_MIN - 1]
)
async def test_timestamp_out_of_range_is_a_dead_letter(timestamp: int) -> None:
    partition = await Partition().restart()
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED, timestamp=timestamp))
    await partition.feed(record(names.MERCHANT_CREATED, 1, CREATED))

    (letter,) = partition.dead_letters()
    assert letter["reason"] == f"the timestamp {timestamp} is not in milliseconds"
    assert M1 in partition.processor.rows.merchants
    assert partition.deaths.causes == []


@pytest.mark.parametrize("text", [None, b""])
async def test_mark_of_a_producer_is_a_dead_letter_with_a_reason(text: bytes | None) -> None:
    partition = await Partition().restart()
    headers = [(UNREADABLE, text)]
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED, headers=headers))

    (letter,) = partition.dead_letters()
    assert "which no producer may use" in letter["reason"]


@pytest.mark.parametrize("timestamp", [TIMESTAMP_MAX, TIMESTAMP_MIN, -1])
async def test_deadlines_of_the_first_and_the_last_timestamp_are_dates(timestamp: int) -> None:
    partition = await Partition().restart()
    charge = {"merchant_id": M1, "charge_id": "c", "status": "active"}
    command = {"merchant_id": M1, "platform": "shopify", "command": "start_trial"}
    purchase = {**command, "command": "reserve_purchase", "pack": "small"}
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED, timestamp=timestamp))
    await partition.feed(record(names.PURCHASE_UPDATED, 0, charge, timestamp=timestamp))
    await partition.feed(record(names.COMMANDS, 0, command, timestamp=timestamp))
    await partition.feed(record(names.COMMANDS, 1, purchase, timestamp=timestamp))

    assert partition.deaths.causes == []
    assert partition.dead_letters() == []


REGISTRY = "wire format of a schema registry (Avro, Protobuf or JSON Schema, schema id 7)"
TEXT = json.dumps(CREATED)


@pytest.mark.parametrize(
    ("value", "looks_like"),
    [
        (b"\x00\x00\x00\x00\x07" + TEXT.encode(), REGISTRY),
        (b"\x00\x00\x00\x00\x07\x02\x48avro", REGISTRY),
        (b"\x03\x00" + bytes(16) + b"\x02\x48", "wire format of AWS Glue Schema Registry"),
        (TEXT.encode("utf-16"), "JSON in UTF-16: send it in UTF-8"),
        (TEXT.encode("utf-16-le"), "JSON in UTF-16: send it in UTF-8"),
        (TEXT.encode("utf-16-be"), "JSON in UTF-16: send it in UTF-8"),
        (TEXT.encode("utf-32"), "JSON in UTF-32: send it in UTF-8"),
        (TEXT.encode("utf-32-le"), "JSON in UTF-32: send it in UTF-8"),
        (TEXT.encode("utf-32-be"), "JSON in UTF-32: send it in UTF-8"),
    ],
    ids=[
        "json-registry",
        "avro",
        "glue",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "utf-32-le",
        "utf-32-be",
    ],
)
async def test_foreign_format_is_a_dead_letter_that_names_it(value: bytes, looks_like: str) -> None:
    partition = await Partition().restart()
    await partition.feed(record(names.MERCHANT_CREATED, 0, value))
    await partition.feed(record(names.MERCHANT_CREATED, 1, CREATED))

    (letter,) = partition.dead_letters()
    assert looks_like in letter["reason"]
    assert "send" in letter["reason"]
    assert base64.b64decode(letter["value"]) == value
    assert M1 in partition.processor.rows.merchants


async def test_record_that_the_client_could_not_read_is_a_dead_letter() -> None:
    partition = await Partition().restart()
    odd = unreadable("the name of a header is not UTF-8: 'x'", [("caf\\xe9", b"v")])
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED, headers=odd))
    await partition.feed(record(names.MERCHANT_CREATED, 1, CREATED))

    (letter,) = partition.dead_letters()
    assert letter["reason"] == "the name of a header is not UTF-8: 'x'"
    assert letter["headers"] == [["caf\\xe9", base64.b64encode(b"v").decode()]]
    assert M1 in partition.processor.rows.merchants
    assert partition.deaths.causes == []


LARGE = 3_200_000


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"value": b"v" * LARGE}, {"value": 65_536}),
        ({"key": b"k" * LARGE}, {"key": 65_536}),
        ({"headers": [("a", b"b"), ("x", b"h" * LARGE), ("y", b"z")]}, {"headers": 1}),
        ({"headers": [(f"h{n}", b"x" * 1_000) for n in range(3_000)]}, {"headers": 65}),
    ],
    ids=["value", "key", "header", "headers"],
)
async def test_letter_of_a_large_record_holds_its_beginning_and_digest(
    fields: dict[str, Any], kept: dict[str, int]
) -> None:
    partition = await Partition().restart()
    sent = record(names.MERCHANT_CREATED, 0, fields.pop("value", CREATED), **fields)
    await partition.feed(sent)
    await partition.feed(record(names.MERCHANT_CREATED, 1, CREATED))

    (raw,) = partition.log.read(names.DEAD_LETTERS)
    assert len(raw.value or b"") + len(raw.key or b"") < 1 << 20
    letter = letter_of(record(names.DEAD_LETTERS, 0, raw.value)).record
    assert letter.truncated is not UNSET
    assert letter.truncated.value_bytes == len(sent.value or b"")
    assert letter.truncated.value_sha256 == hashlib.sha256(sent.value or b"").hexdigest()
    assert letter.truncated.record_bytes > LARGE - 300_000
    assert letter.truncated.record_sha256 == record_sha256(sent)
    for name, size in kept.items():
        assert len(getattr(letter, name)) == size
        assert list(getattr(sent, name)[:size]) == list(getattr(letter, name))
    assert M1 in partition.processor.rows.merchants


async def test_letter_of_a_record_that_a_topic_takes_holds_all_of_it() -> None:
    partition = await Partition().restart()
    await partition.feed(record(names.MERCHANT_CREATED, 0, b"v" * 1_000_000))
    (letter,) = partition.dead_letters()
    assert len(base64.b64decode(letter["value"])) == 1_000_000
    assert "truncated" not in letter


async def test_copy_of_a_record_fits_into_the_topic_it_is_forwarded_to() -> None:
    """On another partition than its merchant's, with more headers than that topic takes."""
    partition = await Partition().restart()
    headers = [("x", b"h" * 40_000)]
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED, headers=headers))
    (letter,) = partition.dead_letters()
    assert letter["reason"] == "key and headers have 40004 bytes, more than 32768"


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


@pytest.mark.parametrize("error", [MemoryError(), OSError("disk")])
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
