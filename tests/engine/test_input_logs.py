"""An input whose log is not the one that its position is of stops until that is accepted."""

import asyncio
from typing import Any

import pytest

from billing_stream.domain.commands import StartTrial
from billing_stream.engine.input_rows import StopCause
from billing_stream.engine.log import LOG_PREFIX
from billing_stream.engine.partition_inputs import Batch
from billing_stream.engine.partition_processor import Request
from billing_stream.kafka.topic_logs import FoundLog, LogMark
from billing_stream.records import topics as names
from tests.support.partition import START, TOPICS, Partition, Record, record
from tests.support.world import M1

pytestmark = pytest.mark.logs_errors

UPDATED, ORDERS = names.PURCHASE_UPDATED, names.OPERATOR_COMMANDS
CREATED = {"merchant_id": M1, "platform_name": "shopify", "domain": "one.example"}
AT = int(START.timestamp() * 1000)


def paid(offset: int, partition: int = 0) -> Record:
    value = {"merchant_id": M1, "charge_id": f"c-{offset}", "status": "active"}
    return record(UPDATED, offset, value, timestamp=AT + offset, partition=partition)


def order(at: int, command: str, topic: str = UPDATED, partition: int = 0) -> Record:
    of = {"topic": topic, "partition": partition}
    return record(ORDERS, at, {"command": command, **of, "by": "ann", "reason": "restored"})


def log(begin: int, end: int, **fields: Any) -> FoundLog:
    """What is found of the log; the record before `end` is as it was read unless said otherwise."""
    said = {"cluster": "k", "topic_id": "A", "timestamp": AT + 5, **fields}
    return FoundLog(begin=begin, end=end, **said)


async def settle(partition: Partition) -> None:
    for _ in range(200):
        await asyncio.sleep(0)
        if partition.lane.is_idle and not partition.lane.inputs.found:
            return


async def look(partition: Partition, found: FoundLog, topic: str = UPDATED) -> None:
    partition.lane.compare(topic, found)
    await settle(partition)


async def read_to_6() -> Partition:
    """Six records of topic id A are read."""
    partition = await Partition().restart()
    await look(partition, log(0, 0))
    await partition.feed(*(paid(n) for n in range(6)))
    assert partition.lane.inputs.marks[UPDATED] == LogMark("k", "A", 5, AT + 5)
    return partition


async def accept(partition: Partition, at: int = 0, topic: str = UPDATED) -> None:
    one = order(at, "accept_topic", topic)
    partition.lane.put(Batch(ORDERS, [one], at, partition.lanes.epoch))
    await settle(partition)


async def test_input_never_read_begins_at_the_first_offset_there_is() -> None:
    partition = await Partition().restart()

    await look(partition, log(40, 90, timestamp=None))

    assert partition.lane.positions[UPDATED] == 40
    assert not partition.lane.stopped
    await partition.restart()
    assert partition.lane.positions[UPDATED] == 40, "what is deleted from here on is a loss"
    assert partition.lane.inputs.marks[UPDATED] == LogMark("k", "A")


async def test_position_without_a_topic_id_adopts_that_of_its_topic() -> None:
    partition = await Partition().restart()
    await partition.feed(*(paid(n) for n in range(6)))
    changelog = partition.log.read(TOPICS.changelog(names.BILLING_RECORDS))
    assert not [row for row in changelog if row.key == LOG_PREFIX + UPDATED.encode()]

    await look(partition, log(0, 8, timestamp=None))
    await partition.restart()

    assert not partition.lane.stopped
    assert partition.lane.positions[UPDATED] == 6
    assert partition.lane.inputs.marks[UPDATED] == LogMark("k", "A")


@pytest.mark.parametrize(
    ("begin", "end", "says", "resume"),
    [
        (8, 9, "offsets 6 to 7 were deleted before they were read", 8),
        (0, 3, "offsets 3 to 5 were read, and the log ends before them", 0),
    ],
)
async def test_position_without_a_topic_id_must_be_in_the_log(
    begin: int, end: int, says: str, resume: int
) -> None:
    partition = await Partition().restart()
    await partition.feed(*(paid(n) for n in range(6)))

    await look(partition, log(begin, end, timestamp=None))

    assert says in partition.lane.stopped[UPDATED].reason
    await accept(partition)
    assert partition.lane.positions[UPDATED] == resume


SAME = pytest.mark.parametrize(
    "found",
    [
        log(0, 6),
        log(5, 20),
        # The last record read may be deleted.
        log(6, 6, timestamp=None),
        # Restored with all its records, in this cluster or another one.
        log(0, 6, topic_id="B"),
        log(0, 9, topic_id="B", cluster="l"),
        log(6, 9, topic_id="B", cluster="l", timestamp=None),
        log(0, 9, cluster="l"),
    ],
)


@SAME
async def test_log_that_holds_what_was_read_is_read_on(found: FoundLog) -> None:
    partition = await read_to_6()

    await look(partition, found)
    await partition.feed(*(paid(n) for n in range(6, 8)))

    assert not partition.lane.stopped
    assert partition.lane.positions[UPDATED] == 8
    assert partition.lane.inputs.marks[UPDATED] == LogMark(found.cluster, found.topic_id, 7, AT + 7)


CHANGES = {
    "trimmed": (log(8, 9, timestamp=None), "offsets 6 to 7 were deleted before they were read", 8),
    "created again, fewer": (log(0, 4, topic_id="B", timestamp=None), "created again", 0),
    "created again, as many": (log(0, 6, topic_id="B", timestamp=AT + 99), "created again", 0),
    "created again, more": (log(0, 10, topic_id="B", timestamp=AT + 99), "created again", 0),
    "created again, trimmed": (log(7, 9, topic_id="B", timestamp=None), "created again", 7),
    "created again, empty": (log(0, 0, topic_id="B", timestamp=None), "now it is empty", 0),
    "truncated": (
        log(0, 3, timestamp=None, newer=3),
        "of the offsets up to 5, which were read, those from 3 on are gone",
        3,
    ),
    "truncated, written on": (log(0, 5, timestamp=None, newer=3), "those from 3 on are gone", 3),
    "truncated, grown": (log(0, 12, timestamp=AT + 99, newer=3), "those from 3 on are gone", 3),
    "mirrored without markers": (
        log(0, 5, topic_id="B", cluster="l", timestamp=None),
        "copied with other offsets",
        0,
    ),
    "mirrored with other records": (
        log(0, 9, topic_id="B", cluster="l", timestamp=AT + 99),
        "copied with other offsets",
        0,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_changed_log_stops_its_input_until_that_is_accepted(change: str) -> None:
    found, says, resume = CHANGES[change]
    partition = await read_to_6()

    await look(partition, found)
    # What was fetched before it was seen.
    partition.lane.put(Batch(UPDATED, [paid(6)], 6, partition.lanes.epoch))
    await settle(partition)
    await partition.restart()
    await look(partition, found)

    stop = partition.lane.stopped[UPDATED]
    assert says in stop.reason
    assert stop.reason.endswith(f"once that is accepted, reading continues at offset {resume}")
    assert (stop.cause, stop.at) == (StopCause.TOPIC_CHANGED, START)
    assert partition.lane.positions[UPDATED] == 6
    assert UPDATED in partition.lane.inputs.held

    await accept(partition)
    assert not partition.lane.stopped
    assert partition.lane.positions[UPDATED] == resume
    # The consumer looks again before it reads.
    await look(partition, FoundLog("l", found.topic_id, found.begin, found.end))
    partition.lane.put(Batch(UPDATED, [paid(resume)], resume, partition.lanes.epoch))
    await settle(partition)
    assert partition.lane.positions[UPDATED] == resume + 1
    assert partition.deaths.causes == []


async def test_other_inputs_requests_and_timers_go_on_beside_a_changed_one() -> None:
    partition = await read_to_6()
    await look(partition, log(8, 9, timestamp=None))

    await partition.feed(record(names.MERCHANT_CREATED, 0, CREATED))
    answered = await partition.lane.ask(Request(StartTrial(M1, None, "http/1"), "http", "c"))
    partition.now = START.replace(year=2027)
    partition.lane.wake_if_due()
    for _ in range(50):
        await asyncio.sleep(0)

    assert answered.reply.credits_granted == 500
    assert partition.lane.positions[names.MERCHANT_CREATED] == 1
    assert len(partition.events("trial.expired")) == 1
    assert partition.lane.positions[UPDATED] == 6


@pytest.mark.parametrize("command", ["resume_input", "skip_record"])
async def test_changed_input_cannot_be_resumed_or_skipped(command: str) -> None:
    partition = await read_to_6()
    await look(partition, log(8, 9, timestamp=None))
    one = order(0, command)
    if command == "skip_record":
        said = {"command": command, "topic": UPDATED, "partition": 0, "by": "ann", "reason": "x"}
        one = record(ORDERS, 0, {**said, "offset": 8})

    await partition.feed(one)

    assert [d["reason"].partition(":")[0] for d in partition.dead_letters()] == ["TOPIC_CHANGED"]
    assert UPDATED in partition.lane.stopped


async def test_more_lost_before_it_is_accepted_stops_it_again() -> None:
    partition = await read_to_6()
    await look(partition, log(8, 12, timestamp=None))
    await accept(partition)

    await look(partition, log(10, 12, timestamp=None))

    assert "offsets 8 to 9 were deleted" in partition.lane.stopped[UPDATED].reason


async def test_changed_topic_of_operators_is_named_and_read_on() -> None:
    """Stopped, nobody could accept it."""
    partition = await read_to_6()
    await look(partition, log(0, 0), ORDERS)
    await partition.feed(order(0, "resume_input"), order(1, "resume_input"))

    await look(partition, log(0, 1, topic_id="B", timestamp=None), ORDERS)
    assert "created again" in partition.lane.stopped[ORDERS].reason
    assert ORDERS not in partition.lane.inputs.held
    await accept(partition, 0, ORDERS)

    assert not partition.lane.stopped
    assert partition.lane.positions[ORDERS] == 1
    assert partition.lane.inputs.marks[ORDERS].topic_id == "B"


async def test_changed_log_of_an_added_partition_stops_that_one_only() -> None:
    added = f"{UPDATED}[1]"
    partition = await read_to_6()
    await look(partition, log(0, 0), added)
    await partition.feed(*(paid(n, 1) for n in range(6)))
    await partition.restart()
    assert partition.lane.inputs.marks.keys() == {UPDATED, added}

    await look(partition, log(8, 9, timestamp=None), added)
    await partition.restart()
    assert partition.lane.stopped.keys() == partition.lane.inputs.held == {added}
    await partition.feed(order(0, "accept_topic", partition=1))
    assert partition.lane.positions == {UPDATED: 6, added: 8, ORDERS: 1}

    # That it was added is another thing to accept.
    await partition.feed(order(1, "accept_topic", partition=1))
    await partition.restart()
    assert partition.lane.inputs.accepted == {added}
    assert partition.lane.inputs.marks[added] == LogMark("k", "A")
    assert partition.dead_letters() == []
