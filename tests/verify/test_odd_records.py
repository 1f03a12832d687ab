"""The verifier and the replay read odd records as the lanes do."""

import base64
import json
from typing import Any

import pytest

from billing_stream.audit.verify.content import UNREADABLE
from billing_stream.domain.decide import decide
from billing_stream.records import topics as names
from billing_stream.records.forwarding import REDRIVEN_FROM
from tests.replaying.log import replayed, text
from tests.verify.imports import old
from tests.verify.world import TOPICS, World, merchant_id

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ODD: list[Any] = [None, {}, {"merchant_id": 5}, {"any": "thing"}, [1], "text"]


# Read without what nobody reads; the last of what stands there twice, and each must be valid.
CUT_OR_TWICE = [
    b'"name": "cut \\ud83d"',
    b'"name": "caf\xe9", "na\xe9": 1, "n": 1e999',
    b'"domain": "two.example"',
    b'"domain": "caf\xe9"',
    b'"domain": 7',
    b'"domain": "cut \\ud83d"',
]


def odd_value(fields: bytes, merchant: str) -> bytes:
    return b"{" + fields + b", " + json.dumps(created(merchant)).encode()[1:]


def created(merchant: str, **more: Any) -> dict[str, Any]:
    domain = f"{merchant[:8]}.example"
    return {"merchant_id": merchant, "platform_name": "shopify", "domain": domain, **more}


async def test_odd_records_are_read_as_the_lanes_read_them() -> None:
    world = await World().restart()
    for number, data in enumerate(ODD):
        world.send(names.MERCHANT_CREATED, created(merchant_id(number), data=data))
    marked = merchant_id(20)
    raw = BYTE_ORDER_MARK + json.dumps({"data": created(marked)}).encode()
    world.send(names.MERCHANT_CREATED, raw, merchant=marked)
    command = {"command": "start_trial", "merchant_id": marked}
    headers: dict[str, Any] = {REDRIVEN_FROM: None, "x": None}
    world.send(names.COMMANDS, command, **headers)
    world.send(names.COMMANDS, b"{", merchant=marked, x=None)
    for number, raw in enumerate(CUT_OR_TWICE):
        world.send(names.MERCHANT_CREATED, odd_value(raw, marked), merchant=marked, n=str(number))
    bring = {
        "command": "import_merchant",
        "merchant_id": marked,
        "created_at": "2020-01-01T00:00:00Z",
    }
    raw = json.dumps({**bring, "purchases": [old(marked, 0)]}).encode()
    for amount in (b'"1"', b"[]"):
        twice = raw.replace(b'"amount":', b'"amount": ' + amount + b', "amount":')
        world.send(names.COMMANDS, twice, merchant=marked)
    world.send(names.MERCHANT_CREATED, created(marked), wrong=True, **{REDRIVEN_FROM: "forged"})
    world.send(names.MERCHANT_CREATED, created(marked), wrong=True, **{REDRIVEN_FROM: "forged"})
    mark: dict[str, Any] = {UNREADABLE: None}
    world.send(names.MERCHANT_CREATED, created(marked), **mark)
    world.times[world.send(names.MERCHANT_CREATED, created(marked))] = 1 << 62
    await world.feed_all()

    copy = world.copy()
    report = await copy.verify()
    again = await replayed(copy)
    await world.stop()

    assert report.faults() == set(), "\n".join(report.lines())
    assert not again.differences, text(again)
    # A payload without fields, half a command, two of CUT_OR_TWICE, an import with an amount that
    # is a list, the forged mark, the time.
    assert len(copy.of(TOPICS.name(names.DEAD_LETTERS))) == 7
    # One merchant per record, and `{"merchant_id": 5}` is an envelope with a bad payload.
    assert again.merchants == len(ODD)


LARGE = 1_100_000


async def with_odd_records() -> World:
    """Records that a client could not read, large ones, and good ones."""
    world = await World().restart()
    for number in range(3):
        world.send(names.MERCHANT_CREATED, created(merchant_id(number)))
    odd: dict[str, Any] = {UNREADABLE: "the name of a header is not UTF-8", "caf": "x"}
    world.send(names.MERCHANT_CREATED, created(merchant_id(3)), **odd)
    world.send(names.COMMANDS, None, merchant=merchant_id(0), **odd)
    world.send(names.COMMANDS, b"v" * LARGE, merchant=merchant_id(0), x=None, y="z")
    world.send(names.PURCHASE_UPDATED, created(merchant_id(0)), h="x" * LARGE)
    world.send(names.MERCHANT_CREATED, created(merchant_id(1)), wrong=True, h="x" * 40_000)
    await world.feed_all()
    assert world.deaths.causes == []
    return world


async def test_unreadable_and_large_records_are_verified_and_replayed() -> None:
    world = await with_odd_records()
    copy = world.copy()
    report = await copy.verify()
    again = await replayed(copy)
    await world.stop()

    assert len(copy.of(TOPICS.name(names.DEAD_LETTERS))) == 5
    assert report.faults() == set(), "\n".join(report.lines())
    assert not again.differences, text(again)
    # With the one whose record could not be read.
    assert again.merchants == 4


@pytest.mark.parametrize("field", ["value", "headers"])
async def test_letter_of_another_large_record_is_a_fault(field: str) -> None:
    world = await with_odd_records()
    copy = world.copy()
    (large,) = [
        r for r in copy.of(TOPICS.name(names.COMMANDS)) if r.value and len(r.value) == LARGE
    ]
    if field == "value":
        large.value = b"v" * (LARGE - 1) + b"w"
    else:
        large.headers = [("x", b""), ("y", b"z")]
    report = await copy.verify()
    await world.stop()

    assert report.faults() == {"dead-letters"}


async def test_letter_of_an_older_release_holds_a_large_record_whole() -> None:
    world = await with_odd_records()
    copy = world.copy()
    source = next(r for r in copy.of(TOPICS.name(names.COMMANDS)) if len(r.value or b"") == LARGE)
    letters = copy.of(TOPICS.name(names.DEAD_LETTERS))
    letter = next(r for r in letters if "truncated" in r.data and r.data["topic"] == source.topic)
    whole = {**letter.data, "value": base64.b64encode(source.value or b"").decode()}
    del whole["truncated"]
    letter.put(whole)
    report = await copy.verify()
    await world.stop()

    assert report.faults() == set(), "\n".join(report.lines())


@pytest.mark.logs_errors
async def test_record_on_which_a_rule_failed_did_nothing_and_is_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await World().restart()

    def failing(state: Any, command: Any, now: Any) -> Any:
        if command.merchant_id == merchant_id(1):
            raise ZeroDivisionError
        return decide(state, command, now)

    with monkeypatch.context() as patch:
        patch.setattr("billing_stream.processor.decide", failing)
        for number in range(2):
            world.send(names.MERCHANT_CREATED, created(merchant_id(number)))
        world.command(merchant_id(1), "start_trial")
        await world.feed_all()
    report = await world.copy().verify()
    await world.stop()

    assert report.faults() == set(), "\n".join(report.lines())
    assert any("2 records did nothing" in note for note in report.notes)
