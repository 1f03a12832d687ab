"""Extensions of trials in a log: verify and replay follow them, and name what is wrong."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from billing_stream.domain.commands import ExtendTrial, StartTrial
from billing_stream.records import topics as names
from tests.replaying.log import replayed
from tests.verify.world import POLICY, Copy, World, merchant_id

ONE = merchant_id(1)
ASKED = {"command": "extend_trial", "merchant_id": ONE, "reason": "ticket"}


async def extended() -> World:
    """A trial that was extended by Kafka and over HTTP, before its end and after it."""
    world = await World().restart()
    shop = {"merchant_id": ONE, "platform_name": "shopify", "domain": "one.example"}
    world.send(names.MERCHANT_CREATED, shop)
    await world.feed_all()
    await world.ask(StartTrial(ONE, "key", "trial"))
    by_days = {**ASKED, "idempotency_key": "days", "days": 1, "merchant_note": "Yes"}
    world.send(names.OPERATOR_COMMANDS, by_days, merchant=ONE)
    world.send(names.OPERATOR_COMMANDS, by_days, merchant=ONE)
    world.send(names.OPERATOR_COMMANDS, by_days, merchant=ONE, wrong=True)
    world.send(names.OPERATOR_COMMANDS, {**by_days, "days": 2}, merchant=ONE)
    world.send(names.COMMANDS, by_days, merchant=ONE)
    await world.feed_all()
    for moment, key in ((1, "one"), (3, "two"), (5, "three")):
        end = world.now + timedelta(days=moment)
        asked = ExtendTrial(ONE, "ticket", key, end, command_id=f"extend-{key}")
        await world.ask(asked, "operator:olga")
        world.pass_time(days=2)
        await world.tick()
    for _ in range(6):
        world.pass_time(days=1)
        await world.tick()
    return world


async def test_a_log_with_extensions_has_no_fault_and_is_replayed() -> None:
    copy = (await extended()).copy()

    assert len(copy.events("trial.extended")) >= 3
    assert len(copy.events("trial.expired")) >= 2
    report = await copy.verify()
    assert report.ok, "\n".join(report.lines())
    assert (await replayed(copy, POLICY)).differences == []


def dropped(copy: Copy) -> None:
    copy.drop(copy.events("trial.extended")[-1])


def of_another_end(copy: Copy) -> None:
    _edit(copy, "trial.extended", ends_at="2027-01-01T00:00:00Z")


def not_asked_for(copy: Copy) -> None:
    _edit(copy, "trial.extended", extension_id="00000000-0000-5000-8000-000000000000")


def expired_at_an_old_end(copy: Copy) -> None:
    _edit(copy, "trial.expired", expired_at="2026-01-01T05:00:00Z")


def row_without_it(copy: Copy) -> None:
    row = copy.rows(names.BILLING_RECORDS)[-1]
    row.put({**row.data, "trial_extensions": row.data["trial_extensions"][:-1]})


def _edit(copy: Copy, kind: str, **data: str) -> None:
    event = copy.events(kind)[-1]
    event.value = json.dumps({**event.data, "data": event.data["data"] | data}).encode()


@pytest.mark.parametrize(
    ("seed", "named"),
    [
        (dropped, {"sequences"}),
        (of_another_end, {"order"}),
        (not_asked_for, {"trials", "order"}),
        (expired_at_an_old_end, {"trials", "order"}),
        (row_without_it, {"tables"}),
    ],
)
async def test_a_fault_of_an_extension_is_named(
    seed: Callable[[Copy], None], named: set[str]
) -> None:
    copy = (await extended()).copy()

    seed(copy)

    assert named <= (await copy.verify()).faults()
