"""Rows, and rows staged over them."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from billing_stream.domain.commands import (
    AdvanceTime,
    AttachCharge,
    Command,
    CreateMerchant,
    RefundCharge,
    ReservePurchase,
    StartTrial,
    UpdateCharge,
)
from billing_stream.domain.decide import decide
from billing_stream.domain.model import Merchant, Platform, Purchase, PurchaseStatus
from billing_stream.domain.outcomes import Decision, PurchaseOpened
from billing_stream.domain.policy import Policy
from billing_stream.domain.shops import Shop
from billing_stream.domain.state import State
from billing_stream.tables.rows import PartitionRows, StagedRows
from billing_stream.tables.shop_rows import put_shops
from tests.support.world import CHECKOUT, M1, M2, NOBODY, NOW, World, everything, pending_of

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
REMINDER = timedelta(days=3)
POLICY = Policy(trial_duration=5 * HOUR, purchase_expiry=2 * HOUR, answer_retention=3 * HOUR)
MERCHANTS = (M1, M2)
CHARGES = ("c1", "c2", "c3")
KEYS = ("k1", "k2", "k3")


@pytest.fixture
def world() -> World:
    """Nobody yet."""
    return World()


def stage(world: World, rows: StagedRows, *commands: Command) -> list[Decision]:
    """Decide the commands one after the other, on the stage."""
    decisions = []
    for command in commands:
        state = State.of(world.policy, rows, command.merchant_id)
        decisions.append(decide(state, command, world.now))
        rows.add(decisions[-1])
    return decisions


def views(rows: PartitionRows | StagedRows, now: datetime, purchases: Iterable[str]) -> object:
    """All that the rules can read."""
    return [
        [rows.purchase(purchase) for purchase in purchases],
        [
            (
                rows.merchant(merchant),
                [rows.purchase_of_charge(merchant, charge) for charge in CHARGES],
                list(rows.pending_until(merchant, now)),
                list(rows.pending_until(merchant, now + HOUR)),
                list(rows.pending_until(merchant, now + DAY)),
                [rows.answer(merchant, key) for key in KEYS],
                list(rows.answers(merchant)),
                rows.answer_count(merchant),
                rows.pending_count(merchant),
            )
            for merchant in MERCHANTS
        ],
    ]


def test_nothing_staged_is_in_the_rows_before_it_is_applied(world: World) -> None:
    world.created()
    rows = StagedRows(world.rows)
    before = world.everything()

    stage(
        world,
        rows,
        StartTrial(M1, "k"),
        ReservePurchase(M1, "small", Platform.STRIPE, command_id="c"),
        UpdateCharge(M2, "c1", "ACTIVE"),
    )

    assert world.everything() == before
    assert world.rows.answer_count(M1) == 0
    assert world.rows.purchases_of(M1) == []
    assert pending_of(world.rows, M1) == []
    assert world.rows.next_due(M1, DAY, REMINDER) is world.rows.next_due(M2, DAY, REMINDER) is None
    assert not rows.merchant(M1).trial_available  # type: ignore[union-attr]
    assert rows.answer_count(M1) == 1
    rows.apply()
    assert not world.merchant().trial_available
    assert world.rows.answer_count(M1) == 1
    assert len(world.rows.purchases_of(M1)) == len(pending_of(world.rows, M1)) == 1
    assert (
        world.rows.next_due(M1, DAY, REMINDER)
        == world.rows.next_due(M2, DAY, REMINDER)
        == NOW + DAY
    )


def test_what_was_staged_and_thrown_away_leaves_nothing(world: World) -> None:
    world.created()
    before = world.everything()
    command = ReservePurchase(M1, "small", Platform.STRIPE, "/", "k", "c")

    (lost,) = stage(world, StagedRows(world.rows), command)
    rows = StagedRows(world.rows)
    (again,) = stage(world, rows, command)

    assert world.everything() == before
    assert again == lost


def test_a_refusal_stages_nothing(world: World) -> None:
    world.on_trial()
    rows = StagedRows(world.rows)

    stage(world, rows, StartTrial(M1), ReservePurchase(M1, "gigantic", Platform.STRIPE))

    assert rows.merchants == {}
    assert rows.answers_changed == {}


def test_a_purchase_opened_and_due_within_one_transaction_expires_in_it(world: World) -> None:
    world.created()
    rows = StagedRows(world.rows)
    stage(world, rows, ReservePurchase(M1, "small", Platform.STRIPE))

    due = list(rows.pending_until(M1, NOW + DAY))

    assert [p.merchant_id for p in due] == [M1]
    assert list(rows.pending_until(M1, NOW + DAY - timedelta(microseconds=1))) == []
    world.later(days=1)
    (decision,) = stage(world, rows, AdvanceTime(M1))
    assert [p.status for p in decision.purchases] == ["expired"]
    assert list(rows.pending_until(M1, world.now)) == []


def test_purchases_are_listed_newest_first(world: World) -> None:
    world.created()
    opened = [world.later(minutes=1).opened() for _ in range(12)]
    world.attach(opened[1])
    world.webhook("ACTIVE")

    assert [p.id for p in world.rows.purchases_of(M1)] == opened[::-1]
    assert world.rows.purchases_of(M2) == []


def test_what_falls_due_next_is_the_earliest_of_all(world: World) -> None:
    world.on_trial()
    expiry = world.policy.purchase_expiry
    assert world.rows.next_due(M1, expiry, REMINDER) == NOW + timedelta(days=11)

    purchase = world.later(hours=2).charged()
    assert world.rows.next_due(M1, expiry, REMINDER) == NOW + DAY + 2 * HOUR
    world.later(hours=-1).webhook("ACTIVE", "unknown")
    assert world.rows.next_due(M1, expiry, REMINDER) == NOW + DAY + 2 * HOUR

    world.webhook("ACTIVE")
    assert world.purchase(purchase).status == "completed"
    world.later(days=2).tick()
    assert world.rows.next_due(M1, expiry, REMINDER) == NOW + timedelta(days=11)
    world.later(days=14).tick()
    assert world.rows.next_due(M1, expiry, REMINDER) is None
    assert world.rows.next_due(M2, expiry, REMINDER) is None


def test_after_time_has_passed_nothing_due_is_left(world: World) -> None:
    world.on_trial()
    world.opened()
    world.webhook("ACTIVE", "unknown")
    expiry = world.policy.purchase_expiry

    while due := world.rows.next_due(M1, expiry, REMINDER):
        world.now = due
        world.tick()
        left = world.rows.next_due(M1, expiry, REMINDER)
        assert left is None or left > due

    assert world.merchant().trial_expired


def test_a_stored_answer_survives_in_its_row(world: World) -> None:
    world.created()
    reply = world.reserve(key="k").reply

    stored = world.rows.answer(M1, "k")

    assert stored is not None
    assert isinstance(reply, PurchaseOpened)
    assert stored.reply == reply


def test_an_answer_that_is_put_again_is_the_newest(world: World) -> None:
    world.created()
    for key in KEYS:
        world.later(hours=1).reserve(key=key)
    first = world.rows.answer(M1, "k1")
    assert first is not None

    world.rows.put_answer(first)

    assert [answer.key for answer in world.rows.answers(M1)] == ["k2", "k3", "k1"]
    assert world.rows.answer_count(M1) == 3


def test_a_key_used_again_within_one_transaction_is_the_newest(world: World) -> None:
    world.on_trial()
    rows = StagedRows(world.rows)
    stage(world, rows, StartTrial(M1, "k1"))
    stage(world.later(hours=1), rows, StartTrial(M1, "k2"))

    (decision,) = stage(world.later(hours=23), rows, StartTrial(M1, "k1"))

    assert decision.forgotten == ("k1",)
    assert [answer.key for answer in rows.answers(M1)] == ["k2", "k1"]
    rows.apply()
    assert [answer.key for answer in world.rows.answers(M1)] == ["k2", "k1"]


def test_the_last_answer_dropped_leaves_no_trace(world: World) -> None:
    world.created()
    world.reserve(key="k")

    for _ in range(2):
        world.rows.drop_answer(M1, "k")

    assert world.rows.answer_count(M1) == 0
    assert dict(world.rows.stored_responses) == {}


def test_a_shop_belongs_to_the_last_who_registered_it(world: World) -> None:
    rows = world.rows
    staged = StagedRows(rows)
    put_shops(rows.shops, {"shopify:a.example": Shop(M1)})
    staged.shops["shopify:a.example"] = Shop(M2)
    assert rows.shops["shopify:a.example"].merchant_id == M1

    staged.apply()

    assert rows.shops["shopify:a.example"].merchant_id == M2


def test_a_shop_that_is_gone_is_nobodys(world: World) -> None:
    put_shops(world.rows.shops, {"shopify:a.example": Shop(M1)})

    put_shops(world.rows.shops, {"shopify:a.example": None})

    assert dict(world.rows.shops) == {}
    assert "shopify:a.example" not in world.rows.shops


def test_purchases_of_a_merchant_come_newest_first(world: World) -> None:
    world.created(M1, M2)
    opened = [world.later(minutes=1).opened() for _ in range(5)]
    world.opened(M2)

    assert [purchase.id for purchase in world.rows.purchases_of(M1)] == opened[::-1]
    assert world.rows.purchases_of(NOBODY) == []


def test_the_next_pending_purchase_is_the_first_when_the_first_was_paid(world: World) -> None:
    world.created()
    expiry = world.policy.purchase_expiry
    first = world.charged("c1")
    world.later(hours=1).charged("c2")
    assert world.rows.next_due(M1, expiry, REMINDER) == NOW + expiry

    world.webhook("ACTIVE", "c1")

    assert world.purchase(first).status == "completed"
    assert world.rows.next_due(M1, expiry, REMINDER) == NOW + HOUR + expiry
    world.webhook("ACTIVE", "c2")
    assert world.rows.next_due(M1, expiry, REMINDER) is None


@pytest.mark.parametrize("status", list(PurchaseStatus))
def test_purchase_with_a_changed_deadline_is_found_under_the_new_one(
    status: PurchaseStatus,
) -> None:
    # No rule moves an expiry; a log can, in which a purchase was opened twice.
    rows = PartitionRows()
    purchase = Purchase(
        id=NOBODY,
        merchant_id=M1,
        credits=100,
        amount="9.99",
        status=PurchaseStatus.PENDING,
        platform=Platform.CUSTOM,
        created_at=NOW,
        expires_at=NOW + HOUR,
    )
    rows.put_merchant(Merchant(merchant_id=M1, created_at=NOW))
    for other in (purchase, replace(purchase, expires_at=NOW + DAY, status=status)):
        rows.put_purchase(other)

    waits = status is PurchaseStatus.PENDING
    assert rows.next_due(M1, HOUR, REMINDER) == (NOW + DAY if waits else None)
    assert list(rows.pending_until(M1, NOW + HOUR)) == []
    assert len(list(rows.pending_until(M1, NOW + DAY))) == waits


merchants, charges, keys = map(st.sampled_from, (MERCHANTS, CHARGES, (None, *KEYS)))
Drawn = tuple[str, str, str, str | None, int, bool]
DRAWN = st.lists(
    st.tuples(
        st.sampled_from(["create", "trial", "reserve", "attach", "ACTIVE", "declined", "refund"]),
        merchants,
        charges,
        keys,
        st.sampled_from([-90, 0, 0, 1, 60, 120, 180, 300]),
        st.booleans(),
    ),
    max_size=25,
)


def command_of(drawn: Drawn, number: int, last: str) -> Command:
    """The command that was drawn; `last` is the purchase opened last."""
    kind, merchant, charge, key, _, _ = drawn
    match kind:
        case "create":
            return CreateMerchant(merchant, "shopify", charge)
        case "trial":
            return StartTrial(merchant, key)
        case "reserve":
            return ReservePurchase(merchant, "small", Platform.CUSTOM, "/", key, f"c[0]@{number}")
        case "attach":
            return AttachCharge(merchant, last, charge, CHECKOUT)
        case "refund":
            return RefundCharge(merchant, charge)
        case _:
            return UpdateCharge(merchant, charge, kind, f"w[0]@{number}")


@settings(deadline=None, max_examples=150)
@given(steps=DRAWN)
def test_rows_staged_over_others_read_as_if_they_were_applied(steps: list[Drawn]) -> None:
    applied, base = PartitionRows(), PartitionRows()
    staged, committed = StagedRows(base), everything(base)
    now, last = NOW, M1

    for merchant in MERCHANTS:
        steps = [("create", merchant, "a.example", None, 0, False), *steps]
    for number, drawn in enumerate(steps):
        now += timedelta(minutes=drawn[4])
        command = command_of(drawn, number, last)
        single = StagedRows(applied)
        wanted = decide(State.of(POLICY, single, command.merchant_id), command, now)
        single.add(wanted)
        single.apply()

        decision = decide(State.of(POLICY, staged, command.merchant_id), command, now)
        staged.add(decision)

        assert decision == wanted
        assert views(staged, now, applied.purchases) == views(applied, now, applied.purchases)
        assert everything(base) == committed
        if drawn[5]:
            staged.apply()
            staged, committed = StagedRows(base), everything(base)
            assert committed == everything(applied)
        last = next((purchase.id for purchase in decision.purchases), last)

    staged.apply()
    assert everything(base) == everything(applied)
    for merchant in MERCHANTS:
        assert base.purchases_of(merchant) == applied.purchases_of(merchant)
        assert pending_of(base, merchant) == pending_of(applied, merchant)
        assert base.next_due(merchant, 2 * HOUR, REMINDER) == applied.next_due(
            merchant, 2 * HOUR, REMINDER
        )


@settings(deadline=None, max_examples=50)
@given(random=st.randoms(use_true_random=False), hours=st.integers(0, 48))
def test_rows_read_back_in_any_order_give_the_same_views(random: Random, hours: int) -> None:
    world = World().on_trial(M1).created(M2)
    for merchant in MERCHANTS:
        world.webhook("ACTIVE", "c3", merchant)
        world.paid("c1", merchant)
        world.later(hours=hours / 2).charged("c2", merchant)
        for key in KEYS:
            world.reserve(merchant, key=key)
        world.later(hours=hours / 2).tick(merchant)
    held = world.rows
    rows: list[Merchant | Purchase] = [*held.merchants.values(), *held.purchases.values()]
    random.shuffle(rows)

    read = PartitionRows()
    for row in rows:
        again = msgspec.json.decode(msgspec.json.encode(row), type=type(row))
        assert again == row
        if isinstance(again, Merchant):
            read.put_merchant(again)
        else:
            read.put_purchase(again)
    for answers in held.stored_responses.values():
        for answer in answers.values():
            read.put_answer(answer)

    purchases = list(held.purchases)
    assert views(read, world.now, purchases) == views(held, world.now, purchases)
    for merchant in MERCHANTS:
        assert read.purchases_of(merchant) == held.purchases_of(merchant)
        assert pending_of(read, merchant) == pending_of(held, merchant)
        assert read.next_due(merchant, DAY, REMINDER) == held.next_due(merchant, DAY, REMINDER)
