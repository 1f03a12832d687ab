"""Skipped records are left out by the verifier, and each is held against its command."""

from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio

from billing_stream.engine.partitioner import partition_of
from billing_stream.engine.poison import PoisonLimits
from billing_stream.records import topics as names
from tests.verify.world import PARTITIONS, TOPICS, Copy, Stored, World, merchant_id

pytestmark = pytest.mark.logs_errors

ONE = merchant_id(0)
P = partition_of(ONE, PARTITIONS)
UPDATED = TOPICS.name(names.PURCHASE_UPDATED)
INPUT = (UPDATED, P)
COMMANDS = (TOPICS.name(names.OPERATOR_COMMANDS), P)


async def decide(world: World, command: str, **fields: Any) -> None:
    value = {"command": command, "topic": UPDATED, "partition": P, "by": "ann", "reason": "fixed"}
    _, _, offset = world.send(names.OPERATOR_COMMANDS, value | fields, merchant=ONE)
    await world.feed(COMMANDS, offset, 1)


@pytest_asyncio.fixture
async def stopped() -> World:
    """The record at offset 2 is the next of a stopped input, a valid one follows."""
    world = World()
    world.poison = PoisonLimits(in_a_row=2)
    await world.restart()
    world.command(ONE, "create_merchant", platform="shopify", domain="one.example")
    await world.feed_all()
    for _ in range(3):
        world.send(names.PURCHASE_UPDATED, b"{", merchant=ONE)
    paid = {"merchant_id": ONE, "charge_id": "c-1", "status": "accepted"}
    world.send(names.PURCHASE_UPDATED, paid)
    await world.feed(INPUT, 0, 10)
    assert UPDATED in world.lanes[P].stopped
    return world


@pytest_asyncio.fixture
async def resumed(stopped: World) -> World:
    """Both were skipped, and the input was resumed."""
    await decide(stopped, "skip_record", offset=2)
    await stopped.feed(INPUT, 3, 10)
    await decide(stopped, "skip_record", offset=3)
    await decide(stopped, "skip_record", offset=3)
    await decide(stopped, "resume_input")
    await decide(stopped, "resume_input")
    await stopped.feed_all()
    return stopped


def letters(copy: Copy, word: str) -> list[Stored]:
    found = copy.of(TOPICS.name(names.DEAD_LETTERS))
    return [letter for letter in found if letter.data["reason"].startswith(word)]


async def test_records_that_wait_in_a_stopped_input_are_named_with_the_reason(
    stopped: World,
) -> None:
    report = await stopped.copy().verify()

    lines = "\n".join(report.lines())
    assert "2 records from here on are not processed: the input is stopped" in lines
    assert "(3 invalid records in a row)" in lines


async def test_skipped_records_and_rejected_commands_are_no_violation(resumed: World) -> None:
    copy = resumed.copy()

    assert len(letters(copy, "SKIPPED: ")) == 2
    assert len(letters(copy, "NEXT_UNKNOWN: ")) == 1
    assert len(letters(copy, "NOT_STOPPED: ")) == 1
    report = await copy.verify()
    assert report.ok, "\n".join(report.lines())


def lost(copy: Copy) -> None:
    copy.drop(letters(copy, "SKIPPED: ")[1])


def made_up(copy: Copy) -> None:
    letter = letters(copy, "{") or letters(copy, "Input")
    letter[0].put({**letter[0].data, "reason": "SKIPPED: skipped by bob with x[0]@1: why"})


def of_another_command(copy: Copy) -> None:
    letter = letters(copy, "SKIPPED: ")[0]
    letter.put({**letter.data, "reason": letter.data["reason"].replace("]@0", "]@7")})


@pytest.mark.parametrize("seed", [lost, made_up, of_another_command])
async def test_skip_without_its_dead_letter_or_command_is_named(
    resumed: World, seed: Callable[[Copy], None]
) -> None:
    copy = resumed.copy()
    seed(copy)

    report = await copy.verify()

    assert report.checks["dead-letters"].faults
