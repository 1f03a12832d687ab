"""What the code decided, it decides again: in whatever order things came, and after crashes."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from billing_stream.audit.replay.history_source import ReplayError
from billing_stream.audit.replay.replay_report import Report
from billing_stream.domain.commands import StartTrial
from billing_stream.records import topics as names
from tests.replaying.log import CopySource, replayed, text
from tests.simulation.loop import simulate
from tests.simulation.world import POLICY as SIMULATED_POLICY
from tests.simulation.world import World as SimulatedWorld
from tests.simulation.written import replayed as simulation_replayed
from tests.verify.test_no_false_alarm import Driver
from tests.verify.traffic import paid, rich_world
from tests.verify.world import World, merchant_id


async def test_rich_traffic() -> None:
    copy = (await rich_world()).copy()

    report = await replayed(copy)

    assert not report.differences, text(report)
    assert report.merchants >= 10
    assert report.moving == []
    assert report.waiting == 0


async def test_compacted_changelogs() -> None:
    copy = (await rich_world()).copy()
    copy.compact()

    assert not (await replayed(copy)).differences


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
@given(st.data())
def test_whatever_comes_in_whatever_order(data: st.DataObject) -> None:
    async def run() -> Sequence[Report]:
        world = await World().restart()
        await Driver(data).run(world)
        copy, compacted = world.copy(), world.copy()
        await world.stop()
        compacted.compact()
        return [await replayed(copy), await replayed(compacted)]

    for report in asyncio.run(run()):
        assert not report.differences, text(report)


SEEDS = [range(8), pytest.param(range(8, 24), marks=pytest.mark.full)]
TRIAL_CREDITS = {"credits", "reply", "total_credits_purchased"}


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_a_changed_rule_alone_differs_after_crashes_and_redelivery(seeds: range) -> None:
    generous = replace(SIMULATED_POLICY, trial_credits=SIMULATED_POLICY.trial_credits + 1)
    for seed in seeds:
        world = SimulatedWorld(seed)
        simulate(world.run())

        other = simulation_replayed(world, generous)

        assert other.merchants
        assert other.unproved == []
        assert {found.field for found in other.differences} <= TRIAL_CREDITS


async def test_what_no_worker_has_read_yet_is_not_judged() -> None:
    world = await rich_world()
    world.send(names.PURCHASE_UPDATED, paid(merchant_id(1), "c1-2"))
    world.send(names.PURCHASE_UPDATED, b"bad", merchant=merchant_id(1))

    report = await replayed(world.copy())

    assert not report.differences, text(report)
    assert report.waiting == 1


async def test_a_merchant_that_changes_while_it_is_read_is_named_and_not_judged() -> None:
    world = await rich_world()
    before = world.copy()
    world.send(names.MERCHANT_CREATED, paid(merchant_id(2), "c", "x"))
    moved = {"merchant_id": merchant_id(1), "platform_name": "shopify", "domain": "new.example"}
    world.send(names.MERCHANT_CREATED, moved)
    await world.feed_all()
    await world.ask(StartTrial(merchant_id(3), "other-key", "late"))

    report = await replayed(before, source=CopySource(before, world.copy))

    assert not report.differences, text(report)
    assert report.moving == [merchant_id(1), merchant_id(3)]
    everyone = await replayed(before)
    assert report.merchants == everyone.merchants - 2


async def test_purchase_read_before_its_merchant_is_not_judged() -> None:
    """The ends of two topics are never asked for at one moment."""
    world = await rich_world()
    whole, torn = world.copy(), world.copy()
    row = torn.rows(names.CREDIT_PURCHASES)[-1]
    log = torn.logs[row.topic, row.partition]
    del log[log.index(row) :]

    report = await replayed(torn, source=CopySource(torn, lambda: whole))

    assert not report.differences, text(report)
    assert report.moving == [row.data["merchant_id"]]


async def test_a_record_of_ours_that_cannot_be_read_is_named() -> None:
    copy = (await rich_world()).copy()
    event = copy.events("trial.started")[0]
    event.value = b"{}"

    with pytest.raises(ReplayError, match=rf"trial\.started.*@{event.offset} is not as"):
        await replayed(copy)
