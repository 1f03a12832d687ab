"""The verifier knows what becomes of dead letters that are sent again."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from billing_stream.records import topics as names
from tests.verify.redriven import FROM, LEDGER, letters, redrive
from tests.verify.traffic import rich_world
from tests.verify.world import TOPICS, Copy, Stored, World, merchant_id

ONE = merchant_id(0)


def repeats(copy: Copy) -> list[Stored]:
    """The dead letters of copies that came too late."""
    found = copy.of(TOPICS.name(names.DEAD_LETTERS))
    return [letter for letter in found if letter.data["reason"].startswith("ALREADY_REDRIVEN")]


async def test_copies_and_their_ledger_are_no_fault() -> None:
    world = await rich_world()

    report = await world.copy().verify()

    assert report.ok, "\n".join(report.lines())
    assert len(repeats(world.copy())) == 2
    assert report.checks["redriven"].counted == 10
    assert [note for note in report.notes if "copies of dead letters" in note] == []


async def test_a_copy_that_someone_sent_by_hand_is_a_note() -> None:
    world = await rich_world()
    by_hand: dict[str, Any] = {FROM: "x[0]@1"}
    world.send(names.COMMANDS, {"command": "pass_time", "merchant_id": ONE}, **by_hand)
    await world.feed_all()

    report = await world.copy().verify()

    assert report.ok, "\n".join(report.lines())
    assert [note for note in report.notes if "1 copies of dead letters" in note]


async def test_what_was_parked_of_a_copy_and_not_claimed_may_be_sent_again() -> None:
    world = await rich_world()
    (_, again) = letters(world, "never-heard-of")
    webhook = {"merchant_id": merchant_id(99), "charge_id": "never-heard-of", "status": "active"}
    redrive(world, again, {"command": "update_charge", **webhook})
    await world.feed_all()

    report = await world.copy().verify()

    assert report.ok, "\n".join(report.lines())
    assert len(repeats(world.copy())) == 2


async def test_older_letters_of_unclaimed_webhooks_are_no_fault() -> None:
    copy = (await rich_world()).copy()
    for letter in copy.of(TOPICS.name(names.DEAD_LETTERS)):
        if "no purchase claimed" in letter.data["reason"]:
            parsed = json.loads(base64.b64decode(letter.data["value"]))
            old = {name: parsed[name] for name in ("merchant_id", "charge_id")}
            value = json.dumps({**old, "status": parsed.get("status", "refunded")}).encode()
            letter.put({**letter.data, "value": base64.b64encode(value).decode()})

    report = await copy.verify()

    assert report.ok, "\n".join(report.lines())


def repeat_without_a_letter(copy: Copy) -> None:
    copy.drop(repeats(copy)[0])


def repeat_with_another_letter(copy: Copy) -> None:
    letter = repeats(copy)[0]
    letter.put({**letter.data, "value": "AAAA"})


def repeat_that_did_something(copy: Copy) -> None:
    letter = next(r for r in repeats(copy) if b"start_trial" in base64.b64decode(r.data["value"]))
    ref = f"{letter.data['topic']}[{letter.data['partition']}]@{letter.data['offset']}"
    (started,) = (
        e for e in copy.events("trial.started") if e.data["data"]["merchant_id"] == merchant_id(98)
    )
    started.headers = [(n, ref.encode() if n == "cause" else v) for n, v in started.headers]


def first_copy_took_no_effect(copy: Copy) -> None:
    """The letter says that a copy came too late, and it was the first."""
    late = repeats(copy)[0]
    good = next(
        r
        for r in copy.of(TOPICS.name(names.COMMANDS))
        if dict(r.headers).get(FROM) and (r.key or b"") == ONE.encode()
    )
    value = {
        **late.data,
        "topic": good.topic,
        "partition": good.partition,
        "offset": good.offset,
        "key": base64.b64encode(good.key or b"").decode(),
        "value": base64.b64encode(good.value or b"").decode(),
        "headers": [(n, base64.b64encode(v or b"").decode()) for n, v in good.headers],
    }
    copy.add(late, partition=good.partition, value=json.dumps(value).encode())


def ledger_of_no_letter(copy: Copy) -> None:
    action = copy.of(LEDGER)[0]
    action.put({**action.data, "letter": f"{TOPICS.name(names.DEAD_LETTERS)}[0]@999"})


def ledger_of_no_copy(copy: Copy) -> None:
    action = next(r for r in copy.of(LEDGER) if r.data["target"])
    action.put({**action.data, "target": f"{TOPICS.name(names.COMMANDS)}[0]@999"})


def redriven_twice_unasked(copy: Copy) -> None:
    for action in copy.of(LEDGER):
        action.put({**action.data, "again": False})


def action_that_names_nobody(copy: Copy) -> None:
    action = copy.of(LEDGER)[0]
    action.put({**action.data, "by": ""})


def unclaimed_letter_of_another_status(copy: Copy) -> None:
    letter = next(
        r
        for r in copy.of(TOPICS.name(names.DEAD_LETTERS))
        if "no purchase claimed" in r.data["reason"]
    )
    parsed = json.loads(base64.b64decode(letter.data["value"]))
    value = json.dumps({**parsed, "status": "declined"}).encode()
    letter.put({**letter.data, "value": base64.b64encode(value).decode()})


FAULTS: list[tuple[Callable[[Copy], None], set[str]]] = [
    (repeat_without_a_letter, {"redriven"}),
    (repeat_with_another_letter, {"redriven"}),
    (repeat_that_did_something, {"causes"}),
    (first_copy_took_no_effect, {"dead-letters"}),
    (ledger_of_no_letter, {"redriven"}),
    (ledger_of_no_copy, {"redriven"}),
    (redriven_twice_unasked, {"redriven"}),
    (action_that_names_nobody, {"formats"}),
    (unclaimed_letter_of_another_status, {"dead-letters"}),
]


@pytest.mark.parametrize(("seed", "named"), FAULTS, ids=[seed.__name__ for seed, _ in FAULTS])
async def test_a_seeded_fault_is_named(seed: Callable[[Copy], None], named: set[str]) -> None:
    world: World = await rich_world()
    copy = world.copy()

    seed(copy)
    report = await copy.verify()

    assert named <= report.faults(), "\n".join(report.lines())
