"""Each transaction writes in which order it took its records, whatever became of them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from billing_stream.domain.commands import StartTrial
from billing_stream.domain.policy import Policy
from billing_stream.engine.log import ORDER_KEY
from billing_stream.engine.partition_inputs import Batch
from billing_stream.engine.partition_processor import Request
from billing_stream.engine.poison import PoisonLimits
from billing_stream.engine.record_order import StagedOrder
from billing_stream.kafka.topic_logs import FoundLog
from billing_stream.records import topics as names
from tests.support.memory_log import MemoryWriter
from tests.support.partition import TOPICS, Partition, Record, record
from tests.support.world import M1, M2

CREATED, UPDATED, COMMANDS = names.MERCHANT_CREATED, names.PURCHASE_UPDATED, names.COMMANDS
OPERATORS = names.OPERATOR_COMMANDS
Range = tuple[str, int, int]


def created(offset: int, merchant: str = M1, partition: int = 0) -> Record:
    value = {"merchant_id": merchant, "platform_name": "shopify", "domain": f"{merchant}.example"}
    return record(CREATED, offset, value, partition=partition)


def paid(offset: int, charge: str = "c", **fields: Any) -> Record:
    value = {"merchant_id": M1, "charge_id": charge, "status": "active"}
    return record(UPDATED, offset, value, **fields)


def command(offset: int, name: str, **fields: Any) -> Record:
    at = fields.pop("timestamp", None)
    value = {"command": name, "merchant_id": M1, **fields}
    return record(COMMANDS, offset, value, **({} if at is None else {"timestamp": at}))


def operator(at: int, name: str, **fields: Any) -> Record:
    said = {"command": name, "topic": UPDATED, "partition": 0, "by": "ann", "reason": "r", **fields}
    return record(OPERATORS, at, said)


async def together(partition: Partition, *batches: list[Record], request: Any = None) -> None:
    """Have one transaction take these batches, and decide a request."""
    for records in batches:
        first = records[0]
        _, name = partition.lanes.input(first.topic, first.partition)
        batch = Batch(first.topic, list(records), first.offset, partition.lanes.epoch, name=name)
        partition.lane.put(batch)
    if request is not None:
        partition.lane.ask(Request(request, "http", "c-1"))
    await settled(partition)


async def settled(partition: Partition) -> None:
    for _ in range(300):
        await asyncio.sleep(0)
        lane = partition.lane
        if partition.deaths.causes or (lane.is_idle and not lane._due and not lane.inputs.has_work):
            return
    raise AssertionError("the lane does not come to rest")


def ranges(order: dict[str, Any]) -> list[Range]:
    return [(one["topic"], one["from"], one["to"]) for one in order["ranges"]]


def whole(partition: Partition) -> dict[str, int]:
    """Up to where the orders lead, each range from where the one before it ended."""
    reached: dict[str, int] = {}
    for number, order in enumerate(partition.orders(), 1):
        assert order["number"] == number
        for topic, start, end in ranges(order):
            assert start == reached.get(topic, 0)
            reached[topic] = end
    assert reached == dict(partition.lane.positions)
    return reached


async def test_order_of_a_transaction_precedes_its_requests() -> None:
    partition = await Partition().restart()

    await together(
        partition,
        [created(0), created(1, M2)],
        [paid(0)],
        [created(2, M2)],
        request=StartTrial(M1, None, "http/1"),
    )

    journal = partition.log.read(names.JOURNAL)
    assert [record.key for record in journal] == [None, M1.encode()]
    (order,) = partition.orders()
    assert order == {
        "kind": "transaction_order",
        "number": 1,
        "ranges": [
            {"topic": CREATED, "from": 0, "to": 2},
            {"topic": UPDATED, "from": 0, "to": 1},
            {"topic": CREATED, "from": 2, "to": 3},
        ],
        "rules": 2,
    }


async def test_request_alone_and_records_that_come_again_write_no_order() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0), created(1, M2))

    await together(partition, [created(0)], request=StartTrial(M1, None, "http/1"))
    await partition.feed(created(0), created(1, M2), created(2, M2), start=0)

    assert [ranges(order) for order in partition.orders()] == [
        [(CREATED, 0, 2)],
        [(CREATED, 2, 3)],
    ]
    assert len(partition.journal()) == 1


@pytest.mark.parametrize("written", [False, True])
async def test_order_is_whole_after_a_crash_around_the_commit(written: bool) -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))
    writer = partition.writer
    assert isinstance(writer, MemoryWriter)
    writer.crash_before_commit, writer.crash_after_commit = not written, written
    await together(partition, [command(0, "start_trial")], [paid(0)])
    partition.deaths.causes.clear()

    await partition.restart()
    await partition.feed(paid(0), paid(1), start=0)
    await partition.feed(command(0, "start_trial"), start=0)

    assert whole(partition) == {CREATED: 1, UPDATED: 2, COMMANDS: 1}
    assert not any("unordered_until" in order for order in partition.orders())


async def test_record_that_must_wait_is_in_the_transaction_that_takes_it() -> None:
    partition = await Partition(Policy(expired_per_step=2)).restart()
    opened = [command(n, "reserve_purchase", pack="small", platform="stripe") for n in range(5)]
    await partition.feed(created(0))
    await partition.feed(*opened)
    partition.now += timedelta(hours=25)
    late = partition.at(hours=25)

    await together(
        partition,
        [created(1, M2)],
        [command(5, "start_trial", timestamp=late), command(6, "start_trial", timestamp=late)],
        [paid(0, timestamp=late)],
    )

    assert whole(partition) == {CREATED: 2, COMMANDS: 7, UPDATED: 1}
    taken = [one for order in partition.orders() for one in ranges(order)]
    assert taken[2:] == [(CREATED, 1, 2), (COMMANDS, 5, 7), (UPDATED, 0, 1)]
    assert len(partition.orders()) > 3, "the timers had a transaction of their own in between"


@pytest.mark.logs_errors
async def test_stopped_skipped_and_resumed_input_is_in_the_order() -> None:
    partition = Partition()
    partition.poison = PoisonLimits(in_a_row=2)
    await partition.restart()
    bad = [record(UPDATED, n, b"{") for n in range(3)]

    await partition.feed(*bad)
    assert ranges(partition.orders()[-1]) == [(UPDATED, 0, 2)]
    await partition.feed(bad[2])
    await partition.feed(operator(0, "skip_record", offset=2))
    await partition.feed(operator(1, "resume_input"))
    await partition.feed(paid(3))

    assert ranges(partition.orders()[1]) == [(UPDATED, 2, 3), (OPERATORS, 0, 1)]
    assert whole(partition) == {UPDATED: 4, OPERATORS: 2}


async def test_added_partition_is_in_the_order_by_its_own_name() -> None:
    partition = await Partition().restart()

    await together(partition, [created(0)], [created(0, M2, partition=1)])

    assert ranges(partition.orders()[0]) == [(CREATED, 0, 1), (f"{CREATED}[1]", 0, 1)]


@pytest.mark.logs_errors
async def test_position_that_moves_without_records_is_in_the_order() -> None:
    partition = await Partition().restart()

    partition.lane.compare(UPDATED, FoundLog("k", "A", begin=40, end=90))
    await settled(partition)
    await partition.feed(paid(40))

    moved, taken = partition.orders()
    assert moved["ranges"] == [{"topic": UPDATED, "from": 0, "to": 40, "moved": True}]
    assert taken["ranges"] == [{"topic": UPDATED, "from": 40, "to": 41}]


async def test_what_a_release_without_order_took_is_named_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = await Partition().restart()
    await partition.feed(created(0))
    with monkeypatch.context() as old:
        old.setattr(StagedOrder, "note", lambda *_, **__: None)
        await partition.restart()
        await together(partition, [paid(0)], [created(1, M2)])
    await partition.restart()

    await partition.feed(paid(1))
    await partition.feed(paid(2))
    await partition.restart()
    await partition.feed(paid(3))

    assert [order.get("unordered_until") for order in partition.orders()] == [
        None,
        {CREATED: 2, UPDATED: 1},
        None,
        None,
    ]
    rows = partition.log.read(TOPICS.changelog(names.BILLING_RECORDS))
    assert [row.value for row in rows if row.key == ORDER_KEY][-1] == b'{"number":4,"read":6}'
