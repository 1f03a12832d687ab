"""Rows, staged rows and deadlines."""

from datetime import timedelta

from billing_stream.domain.commands import ReservePurchase, StartTrial
from billing_stream.domain.decide import decide
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import PurchaseOpened
from billing_stream.domain.state import State
from tables.deadlines import Deadlines
from tables.rows import StagedRows
from tests.support.world import M1, M2, NOW, World


def stage(world: World, rows: StagedRows, *commands: StartTrial | ReservePurchase) -> None:
    for command in commands:
        state = State.of(world.policy, rows, command.merchant_id)
        rows.add(decide(state, command, world.now))


def test_nothing_staged_is_seen_before_it_is_applied() -> None:
    world = World().created()
    rows = StagedRows(world.rows)
    before = (dict(world.rows.merchants), dict(world.rows.purchases))

    stage(world, rows, StartTrial(M1, "k"), ReservePurchase(M1, "small", Platform.STRIPE))

    assert (world.rows.merchants, world.rows.purchases) == before
    assert world.rows.answer_count(M1) == 0
    assert not rows.merchant(M1).trial_available  # type: ignore[union-attr]
    assert rows.answer_count(M1) == 1
    rows.apply()
    assert not world.merchant().trial_available
    assert world.rows.answer_count(M1) == 1


def test_a_purchase_opened_and_due_within_one_transaction_expires_in_it() -> None:
    world = World().created()
    rows = StagedRows(world.rows)
    stage(world, rows, ReservePurchase(M1, "small", Platform.STRIPE))

    due = list(rows.pending_until(M1, NOW + timedelta(hours=24)))

    assert [p.merchant_id for p in due] == [M1]
    assert list(rows.pending_until(M1, NOW)) == []


def test_purchases_are_listed_newest_first() -> None:
    world = World().created()
    opened = [world.later(minutes=1).opened() for _ in range(4)]

    assert [p.id for p in world.rows.purchases_of(M1)] == opened[::-1]
    assert world.rows.purchases_of(M2) == []


def test_what_falls_due_next_is_the_earliest_of_all() -> None:
    world = World().on_trial()
    expiry = world.policy.purchase_expiry
    assert world.rows.next_due(M1, expiry) == NOW + timedelta(days=14)

    purchase = world.charged()

    assert world.rows.next_due(M1, expiry) == NOW + timedelta(hours=24)
    world.webhook("ACTIVE")
    assert world.purchase(purchase).status == "completed"
    assert world.rows.next_due(M1, expiry) == NOW + timedelta(days=14)
    assert world.rows.next_due(M2, expiry) is None


def test_a_stored_answer_survives_in_its_row() -> None:
    world = World().created()
    reply = world.reserve(key="k").reply

    stored = world.rows.answer(M1, "k")

    assert stored is not None
    assert isinstance(reply, PurchaseOpened)
    assert stored.reply == reply


def test_deadlines_are_taken_once_earliest_first() -> None:
    deadlines = Deadlines()
    for key, minutes in (("c", 3), ("a", 1), ("b", 2)):
        deadlines.set(key, NOW + timedelta(minutes=minutes))
    deadlines.set("c", NOW)
    deadlines.set("a", NOW + timedelta(days=1))

    taken = list(deadlines.take(NOW + timedelta(minutes=2), 10))

    assert taken == ["c", "a", "b"]
    assert list(deadlines.take(NOW + timedelta(days=2), 10)) == []
    assert deadlines.first() is None


def test_deadlines_are_taken_up_to_a_limit() -> None:
    deadlines = Deadlines()
    for number in range(5):
        deadlines.set(str(number), NOW)

    assert len(list(deadlines.take(NOW, 3))) == 3
    assert len(deadlines) == 2
