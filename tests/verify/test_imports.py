"""What came from the service before this one is judged like all the rest."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from billing_stream.records import topics as names
from tests.verify.imports import LATER, LIVING, PAID, TWICE, imported_world, purchase_id
from tests.verify.world import TOPICS, Copy, Stored

Seed = Callable[[Copy], Any]


def event_of(copy: Copy, kind: str, merchant: str) -> Stored:
    return next(e for e in copy.events(kind) if e.data["data"]["merchant_id"] == merchant)


def edit(record: Stored, **data: Any) -> None:
    value = record.data
    value["data"].update(data)
    record.put(value)


def row_of(copy: Copy, merchant: str) -> Stored:
    return [r for r in copy.rows(names.BILLING_RECORDS) if r.data["merchant_id"] == merchant][-1]


def command_of(copy: Copy, merchant: str) -> Stored:
    commands = copy.of(TOPICS.name(names.COMMANDS))
    return next(r for r in commands if r.data["merchant_id"] == merchant)


async def test_an_import_is_no_fault() -> None:
    world = await imported_world()

    report = await world.copy().verify()
    alone = await world.copy().verify(merchant=TWICE)

    assert report.ok, "\n".join(report.lines())
    assert alone.ok, "\n".join(alone.lines())
    assert {r.data["reason"][:18] for r in world.copy().of(TOPICS.name(names.DEAD_LETTERS))} == {
        "PURCHASE_NOT_FOUND",
        "TRIAL_ALREADY_USED",
    }
    kinds = {kind: len(world.copy().events(kind)) for kind in names.EVENT_TYPES}
    assert {kind: count for kind, count in kinds.items() if count} == {
        "trial.imported": 3,
        "trial.expired": 1,
        "credits.imported": 5,
        "credits.purchased": 1,
        "purchase.refunded": 1,
        "purchase.expired": 2,
    }


def credits_told_twice(copy: Copy) -> None:
    """As if the payment had been told again, by the other event."""
    event = event_of(copy, "credits.imported", PAID)
    row = row_of(copy, PAID).data
    value = {**event.data, "event_id": "00000000-0000-5000-8000-000000000000"}
    value["event_type"] = names.event_type("credits.purchased")
    sequence = str(row["sequence"] + 1).encode()
    headers = [(n, sequence if n == "sequence" else v) for n, v in event.headers]
    topic = TOPICS.name(names.event_type("credits.purchased"))
    copy.add(event, topic=topic, value=json.dumps(value).encode(), headers=headers)
    row_of(copy, PAID).put({**row, "sequence": row["sequence"] + 1})


def credits_of_nobody(copy: Copy) -> None:
    edit(event_of(copy, "credits.imported", PAID), credits=71_000)


def credits_lost(copy: Copy) -> None:
    copy.drop(event_of(copy, "credits.imported", LIVING))


def trial_of_nobody(copy: Copy) -> None:
    edit(event_of(copy, "trial.imported", LATER), ends_at="2026-01-01T03:00:00Z")


def trial_available_again(copy: Copy) -> None:
    row = row_of(copy, LIVING)
    row.put({**row.data, "trial_available": True})


def total_of_the_old_service(copy: Copy) -> None:
    row = row_of(copy, PAID)
    row.put({**row.data, "total_credits_purchased": 1000})


def import_that_said_otherwise(copy: Copy) -> None:
    command = command_of(copy, LIVING)
    value = command.data
    value["created_at"] = "2021-01-01T00:00:00Z"
    command.put(value)


def purchase_with_another_price(copy: Copy) -> None:
    rows = copy.rows(names.CREDIT_PURCHASES)
    row = next(r for r in rows if r.key == purchase_id(PAID, 0).encode())
    row.put({**row.data, "amount": "9.99"})


FAULTS: list[tuple[Seed, set[str]]] = [
    (credits_told_twice, {"once", "credits"}),
    (credits_of_nobody, {"credits", "order"}),
    (credits_lost, {"credits", "sequences"}),
    (trial_of_nobody, {"trials", "order"}),
    (trial_available_again, {"trials", "tables"}),
    (total_of_the_old_service, {"credits", "tables"}),
    (import_that_said_otherwise, {"tables"}),
    (purchase_with_another_price, {"tables"}),
]


@pytest.mark.parametrize(
    ("seed", "named"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
async def test_a_seeded_fault_is_named(seed: Seed, named: set[str]) -> None:
    copy = (await imported_world()).copy()

    seed(copy)

    assert named <= (await copy.verify()).faults()
