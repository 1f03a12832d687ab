"""Very many overdue purchases of one merchant, on real lanes: in steps, and others go between."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from billing_stream.domain.commands import (
    AdvanceTime,
    Command,
    CreateMerchant,
    ReservePurchase,
    StartTrial,
)
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import Done, PurchaseOpened
from billing_stream.domain.policy import Policy
from billing_stream.engine.observer import Transaction
from billing_stream.engine.partition_inputs import Batch
from billing_stream.engine.partition_processor import Request
from billing_stream.engine.poison import PoisonLimits
from billing_stream.records import topics as names
from tests.support.memory_log import Crash
from tests.support.partition import Partition, record
from tests.support.world import M1, M2

STEP = 10
COUNT = 95
# In steps of `STEP`, but for what fits into the decision of the command that waits.
STEPS = COUNT // STEP
POLICY = Policy(open_purchases_max=1_000, expired_per_step=STEP, trial_duration=timedelta(hours=24))


@pytest.fixture
async def partition() -> AsyncIterator[Partition]:
    found = Partition(POLICY)
    await overdue(await found.restart())
    yield found
    await found.lanes.drop([0])


async def overdue(partition: Partition) -> None:
    """Two merchants, of which the first has very many purchases that all are overdue."""
    for merchant in (M1, M2):
        await do(partition, CreateMerchant(merchant, "shopify", f"{merchant}.example", "c"))
    for number in range(COUNT):
        if number == COUNT // 2:
            await do(partition, StartTrial(M1, command_id="trial"))
        partition.now += timedelta(milliseconds=1)
        await do(partition, reserve(M1, number))
    partition.now += timedelta(days=2)


def reserve(merchant: str, number: int) -> ReservePurchase:
    return ReservePurchase(merchant, "small", Platform.SHOPIFY, command_id=f"reserve/{number}")


def asked(partition: Partition, command: Command) -> "asyncio.Future[Any]":
    return partition.lane.ask(Request(command, "http", command.command_id or "correlation"))


async def do(partition: Partition, command: Command) -> Any:
    return (await asyncio.wait_for(asked(partition, command), 20)).reply


async def until(holds: Callable[[], bool]) -> None:
    """Let the lane work until something holds."""
    for _ in range(10_000):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come to that")


def observed(partition: Partition) -> list[Transaction[Any]]:
    """What transactions the lane makes from now on."""
    found: list[Transaction[Any]] = []

    class Observer:
        def committed(self, transaction: Transaction[Any]) -> None:
            found.append(transaction)

    partition.lane._observer = Observer()  # type: ignore[assignment]
    return found


def told(partition: Partition, merchant: str = M1) -> list[tuple[int, str]]:
    """The merchant's events of deadlines by sequence: their kind, or which purchase expired."""
    found = []
    for kind in ("trial.expired", "purchase.expired"):
        topic = names.event_type(kind)
        for event in partition.log.read(topic):
            data = json.loads(event.value or b"")["data"]
            if data["merchant_id"] == merchant:
                sequence = int(dict(event.headers)["sequence"] or b"")
                found.append((sequence, data.get("purchase_id", kind)))
    return sorted(found)


def steps(partition: Partition) -> Sequence[dict[str, Any]]:
    return [
        entry
        for entry in partition.journal()
        if entry["command"]["command"] == "pass_time" and entry["command"].get("most")
    ]


def in_order(partition: Partition) -> bool:
    """Whether the events of the deadlines have come in the order of the deadlines, each once."""
    ends = {"trial.expired": partition.processor.rows.merchants[M1].trial_ends_at}
    purchases = partition.processor.rows.purchases
    due = [ends.get(name) or purchases[name].expires_at for _, name in told(partition)]
    sequences = [sequence for sequence, _ in told(partition)]
    assert sequences == list(range(sequences[0], sequences[0] + COUNT + 1))
    return all(before <= after for before, after in pairwise(due) if before and after)


async def test_a_command_waits_until_the_overdue_purchases_are_through(
    partition: Partition,
) -> None:
    made = observed(partition)

    reply = await do(partition, reserve(M1, COUNT))

    assert isinstance(reply, PurchaseOpened)
    assert in_order(partition)
    assert len(steps(partition)) == STEPS
    assert all(len(each.written) <= 5 * STEP for each in made)


async def test_commands_of_other_merchants_are_carried_out_between_the_steps(
    partition: Partition,
) -> None:
    waiting = asked(partition, AdvanceTime(M1, "waits"))
    between: list[Any] = []
    made: list[int] = []
    while not waiting.done():
        between.append(await do(partition, reserve(M2, len(between))))
        made.append(len(steps(partition)))

    assert made[0] < STEPS // 2, "it need not wait for the other merchant"
    assert len(set(made)) > 2, "nor did those after it"
    assert all(isinstance(reply, PurchaseOpened) for reply in between)
    assert waiting.result().reply == Done()


async def test_timers_alone_let_all_of_them_expire_in_steps(partition: Partition) -> None:
    partition.lane.wake_if_due()
    await until(lambda: len(told(partition)) > COUNT)

    assert in_order(partition)
    assert len(steps(partition)) == STEPS
    assert partition.processor.next_due() is None


async def test_records_of_other_topics_are_processed_between_the_steps(
    partition: Partition,
) -> None:
    now = int(partition.now.timestamp() * 1000)
    mine = {"merchant_id": M1, "command": "start_trial"}
    theirs = {"merchant_id": M2, "charge_id": "c", "status": "pending"}
    first = [record(names.COMMANDS, n, mine, timestamp=now) for n in range(2)]
    second = [record(names.PURCHASE_UPDATED, n, theirs, timestamp=now) for n in range(2)]
    reached = []

    class Observer:
        def committed(self, transaction: Transaction[Any]) -> None:
            reached.append(dict(partition.lane.positions))

    partition.lane._observer = Observer()  # type: ignore[assignment]
    waits = asyncio.create_task(partition.feed(*first))
    await partition.feed(*second)
    await waits

    topics = (names.COMMANDS, names.PURCHASE_UPDATED)
    seen = [[positions.get(topic, 0) for topic in topics] for positions in reached]
    assert [0, 2] in seen, "the other topic went on"
    assert seen[-1] == [2, 2]
    assert in_order(partition)
    assert [letter["reason"].partition(":")[0] for letter in partition.dead_letters()] == [
        "TRIAL_ALREADY_USED"
    ] * 2


async def test_a_large_record_that_waits_is_counted_once(partition: Partition) -> None:
    now = int(partition.now.timestamp() * 1000)
    large = {"merchant_id": M1, "command": "start_trial", "note": "x" * 50_000}
    batch = Batch(
        names.COMMANDS,
        [record(names.COMMANDS, 0, large, timestamp=now)],
        0,
        partition.lanes.epoch,
    )

    partition.lane.put(batch)
    assert partition.lane.records_waiting == batch.weight > 1
    await until(lambda: partition.lane.is_idle)

    assert len(steps(partition)) == STEPS
    assert partition.lane.records_waiting == 0


@pytest.mark.logs_errors
async def test_an_input_that_waits_and_then_stops_resumes_at_its_position() -> None:
    partition = Partition(POLICY)
    partition.poison = PoisonLimits(in_a_row=2)
    await overdue(await partition.restart())
    now = int(partition.now.timestamp() * 1000)
    topic = names.PURCHASE_UPDATED
    paid = {"merchant_id": M1, "charge_id": "c", "status": "active"}
    values: list[Any] = [paid, b"{", b"{", b"{", {**paid, "charge_id": "d"}]
    updates = [record(topic, n, value, timestamp=now) for n, value in enumerate(values)]
    made = observed(partition)

    for batch in (updates[:2], updates[2:]):
        partition.lane.put(Batch(topic, [*batch], batch[0].offset, partition.lanes.epoch))
    await until(lambda: partition.lane.is_idle)

    assert len(steps(partition)) == STEPS
    assert topic in partition.lane.stopped
    assert partition.lane.positions[topic] == 3
    resumed = {"command": "resume_input", "topic": topic, "partition": 0, "by": "a", "reason": "r"}
    await partition.feed(record(names.OPERATOR_COMMANDS, 0, resumed))
    await partition.feed(*updates[3:])
    assert topic not in partition.lane.stopped
    assert partition.lane.positions[topic] == len(updates)
    counted = [one.records for each in made for one in each.inputs if one.topic == topic]
    assert sum(counted) == len(updates), "each was taken once"
    assert [letter["offset"] for letter in partition.dead_letters()] == [1, 2, 3]
    assert in_order(partition)


@pytest.mark.parametrize("after", range(1, STEPS, 3))
@pytest.mark.parametrize("written", [False, True])
async def test_a_crash_between_the_steps_continues_exactly(
    partition: Partition, after: int, written: bool
) -> None:
    waiting = asked(partition, AdvanceTime(M1, "waits"))
    await until(lambda: len(steps(partition)) >= after)
    writer = partition.writer
    writer.crash_before_commit, writer.crash_after_commit = not written, written
    await until(lambda: bool(partition.deaths.causes))
    assert isinstance(partition.deaths.causes.pop()[1], Crash)
    assert not waiting.done()

    await partition.restart()
    assert await do(partition, AdvanceTime(M1, "again")) == Done()

    assert in_order(partition)
    assert len({name for _, name in told(partition)}) == COUNT + 1
