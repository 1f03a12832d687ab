"""What holds for every decision."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from billing_stream.domain.commands import (
    AdvanceTime,
    AttachCharge,
    Command,
    CreateMerchant,
    FailPurchase,
    RefundCharge,
    ReservePurchase,
    StartTrial,
    UpdateCharge,
)
from billing_stream.domain.decide import decide
from billing_stream.domain.model import Platform
from billing_stream.domain.policy import Policy
from billing_stream.domain.state import State
from billing_stream.tables.rows import StagedRows
from tests.support.world import CHECKOUT, M1, NOBODY, World, everything, kinds, writes_nothing


def rich() -> tuple[World, str]:
    """A merchant with something of every kind, a day on, and the id of a pending purchase."""
    world = World().on_trial()
    world.paid("paid")
    world.webhook("ACTIVE", "early")
    world.reserve(key="k")
    world.later(hours=23)
    return world, world.charged("charge")


COMMANDS: list[Callable[[str], Command]] = [
    lambda _: CreateMerchant(M1, "shopify", "new.example", "c"),
    lambda _: StartTrial(M1, "k2", "c"),
    lambda _: ReservePurchase(M1, "small", Platform.SHOPIFY, "/", "k", "c"),
    lambda _: ReservePurchase(M1, "large", Platform.SHOPIFY, "/", "k2", "c"),
    lambda purchase: AttachCharge(M1, purchase, "early", CHECKOUT, "c"),
    lambda purchase: FailPurchase(M1, purchase, "no checkout", "c"),
    lambda _: UpdateCharge(M1, "charge", "ACTIVE", "c"),
    lambda _: UpdateCharge(M1, "unknown", "ACTIVE", "c"),
    lambda _: RefundCharge(M1, "charge", "c"),
    lambda _: AdvanceTime(M1, "c"),
]


@pytest.mark.parametrize("command_of", COMMANDS)
@pytest.mark.parametrize("days", [0, 1, 30])
def test_a_decision_is_a_function_of_its_arguments_and_touches_none(
    command_of: Callable[[str], Command], days: int
) -> None:
    world, purchase = rich()
    rows, command = StagedRows(world.rows), command_of(purchase)
    state = State.of(world.policy, rows, M1)
    now = world.now + timedelta(days=days)
    before, merchant, policy = everything(world.rows), state.merchant, Policy()

    first = decide(state, command, now)
    again = decide(state, command, now)

    assert first == again
    assert everything(world.rows) == before
    assert state.merchant is merchant
    assert world.policy == policy
    assert (rows.merchants, rows.purchases, rows.answers_changed, rows.shops) == ({}, {}, {}, {})


@pytest.mark.parametrize("command_of", COMMANDS)
def test_whatever_changes_carries_the_next_version(command_of: Callable[[str], Command]) -> None:
    world, purchase = rich()
    before = world.merchant().version

    decision = world.later(days=30).decide(command_of(purchase))

    assert decision.merchant is not None
    assert decision.merchant.version == before + 1
    assert {changed.version for changed in decision.purchases} == {before + 1}
    assert all(changed.merchant_id == M1 for changed in decision.purchases)


def test_versions_and_sequences_have_no_gaps() -> None:
    world = World().created()
    purchase = world.opened()
    start = world.merchant().version
    decisions = [
        world.attach(purchase, "charge"),
        world.webhook("PENDING"),
        world.webhook("declined"),
        world.webhook("ACTIVE"),
        world.webhook("ACTIVE"),
        world.do(StartTrial(M1)),
        world.do(StartTrial(M1)),
        world.reserve(pack="gigantic"),
        world.refund(),
        world.reserve(),
        world.later(days=30).tick(),
        world.tick(),
    ]

    versions = [d.merchant.version for d in decisions if d.merchant]
    sequences = [event.sequence for d in decisions for event in d.events]
    assert versions == list(range(start + 1, start + 1 + len(versions)))
    assert sequences == list(range(1, 7))
    assert (world.merchant().version, world.merchant().sequence) == (versions[-1], 6)


def test_what_changes_nothing_takes_no_version() -> None:
    world = World().created()
    before = world.everything()

    for _ in range(3):
        assert writes_nothing(world.later(hours=1).tick())
    assert world.everything() == before


def test_a_refusal_leaves_what_time_brought() -> None:
    world = World().on_trial()
    world.opened()

    decision = world.later(days=15).do(AttachCharge(M1, NOBODY, "charge", CHECKOUT))

    assert kinds(decision.events) == ["purchase.expired", "trial.expired"]
    assert kinds(world.log) == ["trial.started", "purchase.expired", "trial.expired"]
