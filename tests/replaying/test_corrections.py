"""Which corrections are made of which differences, and never twice."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from billing_stream.audit.replay.backfill_cli import command_of
from billing_stream.audit.replay.core.records import Difference
from billing_stream.audit.replay.corrections import Plan, corrections_made, plan, uncorrected
from billing_stream.audit.replay.credits import SIGNS
from billing_stream.audit.replay.replay_report import Report
from billing_stream.domain import outcomes
from billing_stream.records import topics as names
from tests.replaying.log import CopySource
from tests.verify.world import PARTITIONS, TOPICS, World, merchant_id

M1 = merchant_id(1)
PURCHASED = names.event_type("credits.purchased")
REFUNDED = names.event_type("purchase.refunded")
EVENT = "66c785f2-386d-5ca0-a633-019b715b766c"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def report(*differences: Difference, unproved: tuple[str, ...] = ()) -> Report:
    return Report(
        code="generous",
        policy={},
        began_at=NOW,
        differences=list(differences),
        unproved=list(unproved),
    )


def other(recorded: Any, replayed: Any, kind: str = "event differs", **more: Any) -> Difference:
    fields: dict[str, Any] = {"type": PURCHASED, "subject": EVENT, "field": "credits", **more}
    return Difference(merchant_id=M1, kind=kind, recorded=recorded, replayed=replayed, **fields)


async def carried_out(world: World, todo: Plan) -> None:
    """The commands of a plan, sent and read by a worker."""
    for correction in todo.corrections:
        sent = msgspec.json.encode(command_of(correction, world.now))
        world.send(names.COMMANDS, sent, merchant=correction.merchant_id)
    await world.feed_all()


async def made(world: World) -> Any:
    """The corrections that were made by now."""
    return await corrections_made(CopySource(world.copy()), TOPICS, range(PARTITIONS))


async def with_merchant() -> World:
    world = await World().restart()
    created = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}
    world.send(names.MERCHANT_CREATED, created)
    await world.feed_all()
    return world


def test_each_kind_of_difference_of_credits_has_its_correction() -> None:
    def credits(*differences: Difference) -> list[int]:
        return [one.credits for one in plan(report(*differences), {}).corrections]

    assert credits(other(100, 120)) == [20]
    assert credits(other(100, 120, type=REFUNDED)) == [-20]
    assert credits(other({"credits": 100}, None, "event missing", field=None)) == [-100]
    assert credits(other(None, {"credits": 100}, "event extra", field=None)) == [100]
    assert credits(other({"credits": 30}, None, "event missing", type=REFUNDED, field=None)) == [30]


def test_what_is_not_about_credits_is_listed_and_left() -> None:
    started = names.event_type("trial.started")
    found = report(
        other("a", "b", type=started, field="ends_at"),
        other("9.99", "8.99", field="amount"),
        other(100, 120, "row differs", type=names.BILLING_RECORDS),
    )

    assert plan(found, {}) == Plan([], 0, [])
    assert uncorrected(found) == [
        f"1 event differs: {PURCHASED} amount",
        f"1 event differs: {started} ends_at",
    ]


def test_merchants_whose_order_is_not_certain_are_left_to_be_looked_at() -> None:
    found = plan(report(other(100, 120), unproved=(M1,)), {})

    assert found.corrections == []
    assert len(found.left) == 1
    assert M1 in found.left[0]


async def test_done_twice_it_corrects_once_and_another_rule_corrects_the_rest() -> None:
    world = await with_merchant()
    first = report(other(100, 120))

    await carried_out(world, plan(first, await made(world)))
    again = plan(first, await made(world))
    back = plan(report(other(100, 105)), await made(world))
    await carried_out(world, back)
    done = plan(report(other(100, 105)), await made(world))

    assert (again.corrections, again.done) == ([], 1)
    assert [one.credits for one in back.corrections] == [-15]
    assert (done.corrections, done.done) == ([], 1)
    adjusted = world.copy().events("credits.adjusted")
    assert [event.data["data"]["credits"] for event in adjusted] == [20, -15]


async def test_two_at_once_correct_once() -> None:
    world = await with_merchant()
    todo = plan(report(other(100, 120)), await made(world))

    await carried_out(world, todo)
    await carried_out(world, todo)

    assert len(world.copy().events("credits.adjusted")) == 1
    assert plan(report(other(100, 120)), await made(world)).corrections == []


async def test_one_that_was_refused_is_made_again() -> None:
    world = await with_merchant()
    less = report(other(100, 80))
    await carried_out(world, plan(less, await made(world)))
    assert world.copy().events("credits.adjusted") == []
    gift = {"credits": 500, "reason": "a gift", "idempotency_key": "gift"}
    world.command(M1, "adjust_credits", **gift)
    await world.feed_all()

    again = plan(less, await made(world))
    await carried_out(world, again)

    assert [one.credits for one in again.corrections] == [-20]
    amounts = [event.data["data"]["credits"] for event in world.copy().events("credits.adjusted")]
    assert amounts == [500, -20]


def test_every_event_with_credits_of_the_balance_is_known() -> None:
    with_credits = {
        names.event_type(kind.kind)
        for kind in outcomes.EventData.__args__
        if "credits" in kind.__struct_fields__
    }

    # The credits of a trial are announced, and no part of the balance.
    assert set(SIGNS) == with_credits - {names.event_type("trial.started")}
