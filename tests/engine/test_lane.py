"""What a lane promises, on a log in memory."""

import asyncio
import gc
import weakref
from datetime import timedelta

import pytest

from billing_stream.domain.commands import StartTrial
from billing_stream.domain.outcomes import TrialGranted
from billing_stream.engine.lane import NotReady
from billing_stream.engine.log import Fenced
from billing_stream.engine.partition_inputs import Batch, GapInInput
from billing_stream.engine.partition_processor import Request
from billing_stream.records import topics as names
from billing_stream.records.schemas import InputRecord
from tests.support.memory_log import Crash
from tests.support.partition import Partition, Record, record, until_committed

M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"


def created(offset: int, merchant: str = M1) -> Record:
    return record(
        names.MERCHANT_CREATED,
        offset,
        {"merchant_id": merchant, "platform_name": "shopify", "domain": f"{merchant[:2]}.shop"},
    )


def trial(offset: int, merchant: str = M1) -> Record:
    return record(names.COMMANDS, offset, {"command": "start_trial", "merchant_id": merchant})


def request(merchant: str = M1) -> Request:
    return Request(StartTrial(merchant, command_id="http/1"), "http", "c-1")


async def test_records_become_rows_events_and_a_position_in_one_transaction() -> None:
    partition = await Partition().restart()

    await partition.feed(created(0))
    await partition.feed(trial(0))

    assert [e["data"]["merchant_id"] for e in partition.events("trial.started")] == [M1]
    assert partition.lane.positions == {names.MERCHANT_CREATED: 1, names.COMMANDS: 1}
    assert partition.deaths.causes == []


async def test_a_crash_before_the_commit_changes_nothing_and_repeats_the_inputs() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))
    before = partition.rows()
    partition.writer.crash_before_commit = True

    await partition.feed(trial(0))

    assert isinstance(partition.deaths.causes[0][1], Crash)
    assert partition.rows() == before
    assert partition.events("trial.started") == []
    partition.deaths.causes.clear()
    await partition.restart()
    await partition.feed(trial(0))
    assert len(partition.events("trial.started")) == 1


async def test_a_crash_after_the_commit_does_not_repeat_what_was_committed() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))
    partition.writer.crash_after_commit = True
    await partition.feed(trial(0))
    partition.deaths.causes.clear()

    await partition.restart()
    await partition.feed(trial(0), start=0)

    assert len(partition.events("trial.started")) == 1
    assert partition.dead_letters() == []


async def test_memory_never_leads_the_log() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))
    partition.writer.crash_before_commit = True

    await partition.feed(trial(0))

    assert partition.processor.rows.merchants[M1].trial_available


async def test_an_old_owner_is_fenced_and_stops() -> None:
    old = await Partition().restart()
    await old.feed(created(0))
    new = Partition()
    new.log = old.log
    await new.restart()

    await old.feed(trial(0))

    assert isinstance(old.deaths.causes[0][1], Fenced)
    assert old.events("trial.started") == []
    await new.feed(trial(0))
    assert len(new.events("trial.started")) == 1


async def test_a_gap_between_batches_is_fatal_for_it_would_lose_records() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))

    await partition.feed(created(7, M2), start=5)

    assert isinstance(partition.deaths.causes[0][1], GapInInput)
    assert M2 not in partition.processor.rows.merchants


async def test_offsets_that_control_records_took_are_no_gap() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))

    await partition.feed(created(4, M2), start=1)

    assert partition.deaths.causes == []
    assert partition.lane.positions[names.MERCHANT_CREATED] == 5


async def test_records_delivered_before_a_seek_are_dropped_and_come_again() -> None:
    partition = await Partition().restart()
    stale = Batch(names.MERCHANT_CREATED, [created(3, M2)], 3, partition.lanes.epoch)

    partition.lanes.next_epoch()
    partition.lane.put(stale)

    assert partition.lane.is_idle
    await partition.feed(created(0))
    assert M2 not in partition.processor.rows.merchants


async def test_a_request_is_in_the_journal_and_answered_after_the_commit() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))

    answer = await partition.lane.ask(request())

    assert isinstance(answer.reply, TrialGranted)
    (entry,) = partition.journal()
    assert entry["command"] == {
        "command": "start_trial",
        "merchant_id": M1,
        "command_id": "http/1",
        "idempotency_key": None,
    }
    assert entry["positions"] == {names.MERCHANT_CREATED: 1}
    assert entry["now"] == "2026-01-01T00:00:00Z"


async def test_a_request_that_was_not_committed_is_never_answered() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))
    partition.writer.crash_before_commit = True

    answer = partition.lane.ask(request())
    await asyncio.sleep(0.01)

    assert not answer.done()
    assert partition.journal() == []


async def test_a_lane_that_leaves_refuses_requests_and_tells_those_that_wait() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))

    await partition.lanes.drop([0])

    with pytest.raises(NotReady):
        partition.lane.ask(request())
    assert partition.events("trial.started") == []


async def test_bad_records_are_dead_letters_and_good_ones_are_processed() -> None:
    partition = await Partition().restart()
    topic = names.PURCHASE_UPDATED
    bad: list[tuple[bytes | None, str]] = [
        (None, "null"),
        (b"\xff\xfe", "JSON in UTF-16"),
        (b"{", "truncated"),
        (b'{"merchant_id": 5, "charge_id": "c", "status": "active"}', "Expected `str`"),
        (b'{"merchant_id": "no-uuid", "charge_id": "c", "status": "active"}', "regex"),
        (b'{"charge_id": "c", "status": "active"}', "missing required field `merchant_id`"),
        (b'{"data": [1]}', "Expected `object`"),
        (b"x" * 100_001, "100001 bytes"),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, "nested too deep"),
    ]

    records = [record(topic, offset, value) for offset, (value, _) in enumerate(bad)]
    await partition.feed(*records)
    await partition.feed(created(0))

    letters = partition.dead_letters()
    assert [(x["topic"], x["partition"], x["offset"]) for x in letters] == [
        (topic, 0, offset) for offset in range(len(bad))
    ]
    for letter, (_, reason) in zip(letters, bad, strict=True):
        assert reason in letter["reason"]
    assert M1 in partition.processor.rows.merchants
    assert partition.deaths.causes == []


async def test_a_refused_command_of_a_topic_is_a_dead_letter_with_its_code() -> None:
    partition = await Partition().restart()

    await partition.feed(trial(0))

    (letter,) = partition.dead_letters()
    assert letter["reason"].startswith("MERCHANT_NOT_FOUND")
    assert partition.rows()["merchants"] == {}


async def test_what_fell_due_is_told_once_and_journalled() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))
    await partition.feed(trial(0))

    partition.now += timedelta(days=14)
    for _ in range(3):
        partition.lane.wake_if_due()
        await asyncio.sleep(0.01)

    (event,) = partition.events("trial.expired")
    assert event["data"] == {"merchant_id": M1, "expired_at": "2026-01-15T00:00:00Z"}
    assert [entry["origin"] for entry in partition.journal()] == ["timer"]


async def test_a_tick_with_nothing_due_writes_nothing() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))
    await partition.feed(trial(0))
    transactions = partition.lane.stats.transactions

    partition.lane.wake_if_due()
    await asyncio.sleep(0.01)

    assert partition.lane.stats.transactions == transactions


async def test_deadlines_survive_a_restart() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))
    await partition.feed(trial(0))

    await partition.restart()
    partition.now += timedelta(days=14)
    partition.lane.wake_if_due()
    await asyncio.sleep(0.01)

    assert len(partition.events("trial.expired")) == 1


async def test_the_rows_of_a_new_owner_equal_those_of_the_old_one() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0), created(1, M2))
    await partition.feed(trial(0), trial(1, M2))
    live = partition.rows()

    await partition.restart()

    assert partition.rows() == live


class Records(list[InputRecord]):
    """A list of which can be seen whether it is gone."""


async def test_the_records_of_a_committed_batch_are_released() -> None:
    partition = await Partition().restart()
    records = Records([created(0)])
    held = weakref.ref(records)
    gc.disable()
    try:
        partition.lane.put(Batch(names.MERCHANT_CREATED, records, 0, partition.lanes.epoch))
        del records
        await until_committed(partition.lane)

        assert held() is None
    finally:
        gc.enable()


async def test_a_paused_lane_commits_nothing_until_it_is_resumed() -> None:
    partition = await Partition().restart()
    await partition.lanes.pause()
    batch = Batch(names.MERCHANT_CREATED, [created(0)], 0, partition.lanes.epoch)

    partition.lane.put(batch)
    await asyncio.sleep(0.01)

    assert partition.rows()["merchants"] == {}
    partition.lanes.next_epoch()
    await partition.feed(created(0))
    assert M1 in partition.processor.rows.merchants
