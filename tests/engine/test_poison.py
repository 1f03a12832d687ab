"""Invalid records are diverted one by one; too many of them stop their input, and no other."""

import asyncio
from typing import Any

import pytest

from billing_stream.domain.commands import StartTrial
from billing_stream.engine.partition_inputs import Batch
from billing_stream.engine.partition_processor import Request
from billing_stream.engine.poison import Poison, PoisonLimits, TooManyInvalidRecords
from billing_stream.records import topics as names
from tests.support.partition import START, TOPICS, Partition, Record, record
from tests.support.world import M1

pytestmark = pytest.mark.logs_errors

CREATED = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}
PAID = {"merchant_id": M1, "charge_id": "c-1", "status": "active"}
UPDATED = names.PURCHASE_UPDATED


def bad(offset: int) -> Record:
    return record(UPDATED, offset, b"{")


def refused(offset: int) -> Record:
    """A valid command that is rejected."""
    value = {"command": "start_trial", "merchant_id": "99999999-9999-4999-8999-999999999999"}
    return record(names.COMMANDS, offset, value)


def order(at: int, command: str, **fields: Any) -> Record:
    """A command of an operator about the input `UPDATED`."""
    said = {"command": command, "topic": UPDATED, "partition": 0, "by": "ann", "reason": "repaired"}
    return record(names.OPERATOR_COMMANDS, at, said | fields)


async def limited(**limits: int) -> Partition:
    partition = Partition()
    partition.poison = PoisonLimits(**limits)
    return await partition.restart()


async def give(partition: Partition, *records: Record) -> None:
    """Deliver from the first of them on, and wait for the lane to come to rest."""
    topic, start = records[0].topic, records[0].offset
    partition.lane.put(Batch(topic, list(records), start, partition.lanes.epoch))
    for _ in range(200):
        await asyncio.sleep(0)
        if partition.lane.is_idle or partition.deaths.causes:
            return


async def stopped_at_5() -> Partition:
    """Four dead letters after a good record; the record at offset 5 is the next."""
    partition = await limited(in_a_row=4)
    await give(partition, record(UPDATED, 0, PAID), *(bad(n) for n in range(1, 12)))
    assert UPDATED in partition.lane.stopped
    assert partition.lane.positions[UPDATED] == 5
    return partition


def reasons(partition: Partition) -> list[str]:
    return [letter["reason"] for letter in partition.dead_letters()]


async def test_input_over_the_limit_stops_and_what_precedes_is_committed() -> None:
    partition = await limited(in_a_row=5)
    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))
    await give(partition, *(bad(n) for n in range(5)))

    await give(partition, *(bad(n) for n in range(5, 9)))
    await give(partition, *(bad(n) for n in range(9, 12)))

    assert partition.lane.stopped[UPDATED].reason == "6 invalid records in a row"
    assert partition.lane.stopped[UPDATED].at == START
    assert len(partition.dead_letters()) == 5
    assert partition.lane.positions[UPDATED] == 5
    assert partition.deaths.causes == []


async def test_part_of_a_batch_before_the_tipping_record_is_committed() -> None:
    partition = await limited(in_a_row=2)

    await give(partition, record(UPDATED, 0, PAID), bad(1), bad(2), bad(3), bad(4))

    assert partition.lane.positions[UPDATED] == 3
    assert [letter["offset"] for letter in partition.dead_letters()] == [1, 2]


async def test_other_inputs_and_requests_continue_beside_a_stopped_input() -> None:
    partition = await limited(in_a_row=1)
    await give(partition, bad(0), bad(1))

    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))
    answered = await partition.lane.ask(Request(StartTrial(M1, None, "http/1"), "http", "c"))
    partition.now = START.replace(year=2027)
    partition.lane.wake_if_due()
    for _ in range(50):
        await asyncio.sleep(0)

    assert answered.reply.credits_granted == 500
    assert partition.lane.positions[names.MERCHANT_CREATED] == 1
    assert partition.lane.positions[UPDATED] == 1
    assert len(partition.events("trial.expired")) == 1


async def test_invalid_records_are_counted_for_each_input_apart() -> None:
    partition = await limited(in_a_row=3)

    for n in range(3):
        await give(partition, bad(n))
        await give(partition, record(names.COMMANDS, n, b"{"))

    assert not partition.lane.stopped
    assert len(partition.dead_letters()) == 6


async def test_input_stays_stopped_after_a_restart_with_other_limits() -> None:
    partition = await stopped_at_5()

    partition.poison = PoisonLimits()
    await partition.restart()
    await give(partition, *(bad(n) for n in range(5, 12)))

    assert partition.lane.stopped[UPDATED].reason == "5 invalid records in a row"
    assert partition.lane.positions[UPDATED] == 5
    assert len(partition.dead_letters()) == 4


async def test_log_without_stops_is_read_as_not_stopped() -> None:
    partition = await limited()
    await give(partition, bad(0))

    await partition.restart()

    assert not partition.lane.stopped
    changelog = partition.log.read(TOPICS.changelog(names.BILLING_RECORDS))
    assert not [row for row in changelog if (row.key or b"").startswith(b"\0stopped/")]


async def test_resume_lifts_the_stop_and_reads_from_the_next_record() -> None:
    partition = await stopped_at_5()

    await give(partition, order(0, "resume_input"))
    await give(partition, *(bad(n) for n in range(12, 14)))
    assert partition.lane.positions[UPDATED] == 5, "fetched before: it comes again"
    await give(partition, bad(5), record(UPDATED, 6, PAID), *(bad(n) for n in range(7, 10)))
    await partition.restart()

    assert not partition.lane.stopped
    assert partition.lane.positions[UPDATED] == 10
    assert [letter["offset"] for letter in partition.dead_letters()] == [1, 2, 3, 4, 5, 7, 8, 9]


async def test_resumed_input_stops_again_at_its_limit() -> None:
    partition = await stopped_at_5()

    await give(partition, order(0, "resume_input"))
    await give(partition, *(bad(n) for n in range(5, 12)))

    assert partition.lane.positions[UPDATED] == 9
    assert UPDATED in partition.lane.stopped


async def test_skip_makes_one_dead_letter_and_leaves_the_input_stopped() -> None:
    partition = await stopped_at_5()

    await give(partition, order(0, "skip_record", offset=5))
    await partition.restart()

    assert partition.lane.positions[UPDATED] == 6
    assert UPDATED in partition.lane.stopped
    (skipped,) = [one for one in partition.dead_letters() if one["offset"] == 5]
    ref = f"{names.OPERATOR_COMMANDS}[0]@0"
    assert skipped["reason"] == f"SKIPPED: skipped by ann with {ref}: repaired"


async def test_skip_after_a_restart_takes_the_record_once_it_is_read() -> None:
    partition = await stopped_at_5()
    await partition.restart()

    await give(partition, order(0, "skip_record", offset=5))
    await give(partition, bad(5), record(UPDATED, 7, PAID))
    await give(partition, order(1, "skip_record", offset=5))
    await give(partition, bad(8))
    await give(partition, record(UPDATED, 6, PAID), record(UPDATED, 7, PAID))
    await give(partition, order(2, "skip_record", offset=6))

    assert [one.partition(":")[0] for one in reasons(partition)[4:]] == [
        "NEXT_UNKNOWN",
        "SKIPPED",
        "SKIPPED",
    ]
    assert partition.lane.positions[UPDATED] == 7


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (order(0, "skip_record", offset=6), "NOT_THE_NEXT"),
        (order(0, "skip_record", offset=4), "NOT_THE_NEXT"),
        (order(0, "accept_topic"), "NOTHING_TO_ACCEPT"),
        (order(0, "resume_input", topic=names.COMMANDS), "NOT_STOPPED"),
        (order(0, "skip_record", topic=names.COMMANDS, offset=0), "NOT_STOPPED"),
        (order(0, "resume_input", partition=1), "WRONG_PARTITION"),
    ],
)
async def test_command_that_cannot_be_carried_out_is_a_dead_letter(
    command: Record, code: str
) -> None:
    partition = await stopped_at_5()
    partition.lane.inputs.lanes = 2

    await give(partition, command)

    (rejected,) = [one for one in partition.dead_letters() if one["topic"] == command.topic]
    assert rejected["reason"].startswith(f"{code}: ")
    assert partition.lane.positions[UPDATED] == 5
    assert UPDATED in partition.lane.stopped


async def test_invalid_commands_of_operators_never_stop_their_own_input() -> None:
    partition = await limited(in_a_row=1)

    await give(partition, *(record(names.OPERATOR_COMMANDS, n, {"command": "x"}) for n in range(9)))
    await give(partition, order(9, "resume_input", by=""))

    assert not partition.lane.stopped
    assert len(partition.dead_letters()) == 10


async def test_forwarded_command_of_an_operator_is_a_dead_letter() -> None:
    partition = await stopped_at_5()
    said = order(0, "resume_input")
    headers = [("billing-forwarded-topic", names.OPERATOR_COMMANDS.encode())]

    await give(partition, Record(names.COMMANDS, 0, said.value, headers=headers))

    assert reasons(partition)[-1] == "commands of operators are not forwarded"
    assert UPDATED in partition.lane.stopped


async def test_rejected_commands_do_not_count_as_invalid() -> None:
    partition = await limited(in_a_row=3)

    await give(partition, *(refused(n) for n in range(20)))

    assert not partition.lane.stopped
    assert len(partition.dead_letters()) == 20


def test_good_records_between_end_a_row() -> None:
    poison = Poison(PoisonLimits(in_a_row=2))

    for _ in range(100):
        poison.note_invalid(1)
        poison.note_invalid(0)


def test_too_large_a_share_of_the_latest_records_is_too_much() -> None:
    poison = Poison(PoisonLimits(in_a_row=10, percent=50, window=100))
    for _ in range(1000):
        poison.note_invalid(1)

    def one_good_in_three() -> None:
        for _ in range(1000):
            poison.note_invalid(1)
            poison.note_invalid(0)

    with pytest.raises(TooManyInvalidRecords, match="of the last"):
        one_good_in_three()
