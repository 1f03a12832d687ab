"""Bad records are diverted one by one; too many of them stop the partition."""

import asyncio

import pytest

from billing_stream.domain.commands import StartTrial
from billing_stream.engine.batch import Batch
from billing_stream.engine.partition_processor import Request
from billing_stream.engine.poison import Poison, PoisonLimits, TooManyBadRecords
from billing_stream.records import topics as names
from tests.support.partition import Partition, Record, record
from tests.support.world import M1

CREATED = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}


def bad(offset: int) -> Record:
    return record(names.PURCHASE_UPDATED, offset, b"{")


def refused(offset: int) -> Record:
    """A command that makes sense and is refused."""
    value = {"command": "start_trial", "merchant_id": "99999999-9999-4999-8999-999999999999"}
    return record(names.COMMANDS, offset, value)


async def limited(**limits: int) -> Partition:
    partition = Partition()
    partition.poison = PoisonLimits(**limits)
    return await partition.restart()


async def give(partition: Partition, *records: Record) -> None:
    """Deliver, and wait for the lane to come to rest or to stop."""
    topic = records[0].topic
    start = records[0].offset
    await partition.lane.put(Batch(topic, list(records), start, partition.lanes.epoch))
    await asyncio.sleep(0.01)


@pytest.mark.logs_errors
async def test_a_row_of_bad_records_stops_the_partition_and_nothing_of_it_is_diverted() -> None:
    partition = await limited(in_a_row=5)
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))
    await give(partition, *(bad(n) for n in range(5)))
    before = partition.lane.positions

    await give(partition, *(bad(n) for n in range(5, 9)))
    await give(partition, *(bad(n) for n in range(9, 12)))

    assert partition.lane.stopped_reason == "6 records in a row make no sense"
    assert len(partition.dead_letters()) == 5
    assert partition.lane.positions == before
    assert partition.lane.positions[names.PURCHASE_UPDATED] == 5
    assert partition.deaths.causes == []


@pytest.mark.logs_errors
async def test_a_stopped_partition_still_answers_requests() -> None:
    partition = await limited(in_a_row=1)
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))
    await give(partition, bad(0), bad(1))
    assert partition.lane.stopped_reason is not None

    answered = await partition.lane.ask(Request(StartTrial(M1, None, "http/1"), "http", "c"))

    assert answered.reply.credits_granted == 500
    assert partition.lane.positions.get(names.PURCHASE_UPDATED, 0) == 0


@pytest.mark.logs_errors
async def test_a_stopped_partition_goes_on_after_a_restart_with_other_limits() -> None:
    partition = await limited(in_a_row=3)
    await give(partition, *(bad(n) for n in range(10)))
    assert partition.lane.stopped_reason is not None

    partition.poison = PoisonLimits()
    await partition.restart()
    await give(partition, *(bad(n) for n in range(10)))

    assert partition.lane.stopped_reason is None
    assert len(partition.dead_letters()) == 10


async def test_commands_that_are_refused_are_no_poison() -> None:
    partition = await limited(in_a_row=3)

    await give(partition, *(refused(n) for n in range(20)))

    assert partition.lane.stopped_reason is None
    assert len(partition.dead_letters()) == 20


def test_good_records_between_end_a_row() -> None:
    poison = Poison(PoisonLimits(in_a_row=2))

    for _ in range(100):
        poison.note(bad=True)
        poison.note(bad=True)
        poison.note(bad=False)


def test_too_large_a_share_of_the_latest_records_is_too_much() -> None:
    poison = Poison(PoisonLimits(in_a_row=10, percent=50, window=100))
    for _ in range(1000):
        poison.note(bad=False)
        poison.note(bad=True)

    def one_good_in_three() -> None:
        for _ in range(1000):
            poison.note(bad=True)
            poison.note(bad=True)
            poison.note(bad=False)

    with pytest.raises(TooManyBadRecords, match="of the last"):
        one_good_in_three()
