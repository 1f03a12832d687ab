"""Partitions added to a topic later: their lane reads them, forwards all, and decides nothing."""

from typing import Any

import pytest

from billing_stream.engine.poison import PoisonLimits
from billing_stream.errors import SettingsError
from billing_stream.records import topics as names
from billing_stream.records.record_ref import RecordRef
from tests.support.partition import TOPICS, Partition, Record, record
from tests.support.world import M1, M2

CREATED, COMMANDS, OPERATORS = names.MERCHANT_CREATED, names.COMMANDS, names.OPERATOR_COMMANDS
ADDED = 1
NAME = f"{CREATED}[{ADDED}]"


def created(offset: int, merchant: str = M1, partition: int = ADDED) -> Record:
    value = {"merchant_id": merchant, "platform_name": "shopify", "domain": f"{merchant}.example"}
    return record(CREATED, offset, value, partition=partition)


def order(at: int, command: str, **fields: Any) -> Record:
    said = {
        "command": command,
        "topic": CREATED,
        "partition": ADDED,
        "by": "ann",
        "reason": "grown",
    }
    return record(OPERATORS, at, said | fields)


def forwarded(partition: Partition) -> list[Record]:
    """What was written to the commands, as it is read there."""
    return [
        Record(COMMANDS, offset, one.value, one.key, headers=one.headers)
        for offset, one in enumerate(partition.log.read(COMMANDS))
    ]


def reasons(partition: Partition) -> list[str]:
    return [letter["reason"] for letter in partition.dead_letters()]


async def test_records_of_an_added_partition_are_forwarded_in_their_order() -> None:
    partition = await Partition().restart()

    await partition.feed(created(0), created(1, M2), created(2))

    assert partition.rows()["merchants"] == {}
    copies = forwarded(partition)
    assert [copy.key for copy in copies] == [M1.encode(), M2.encode(), M1.encode()]
    assert dict(copies[2].headers)["billing-forwarded-from"] == f"{NAME}@2".encode()

    await partition.feed(*copies)
    assert partition.rows()["merchants"].keys() == {M1, M2}
    assert partition.deaths.causes == []


async def test_merchant_with_rows_is_not_decided_from_an_added_partition() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0, partition=0))
    command = {"command": "start_trial", "merchant_id": M1}

    await partition.feed(record(COMMANDS, 0, command, partition=ADDED))

    assert partition.events("trial.started") == []
    assert len(forwarded(partition)) == 1


async def test_position_in_an_added_partition_outlives_the_worker() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0, partition=0))
    await partition.feed(created(0), created(1, M2))

    await partition.restart()
    await partition.feed(created(0), created(1, M2), created(2, M2), start=0)

    assert partition.lane.positions == {CREATED: 1, NAME: 3}
    assert len(forwarded(partition)) == 3


async def test_journal_names_no_position_of_an_added_partition() -> None:
    partition = await Partition().restart()
    await partition.feed(created(0, partition=0))
    await partition.feed(record(COMMANDS, 0, {"command": "start_trial", "merchant_id": M1}))
    await partition.feed(created(0, M2))

    partition.now = partition.now.replace(year=2027)
    partition.lane.wake_if_due()
    await partition.feed(created(1, M2))

    assert [entry["positions"] for entry in partition.journal()] == [{CREATED: 1, COMMANDS: 1}]


async def test_gap_in_an_added_partition_ends_the_worker() -> None:
    partition = await Partition().restart()

    await partition.feed(created(5), start=5)

    ((_, error),) = partition.deaths.causes
    assert str(error) == f"{NAME} was read from 5, not 0"


@pytest.mark.logs_errors
async def test_added_partition_is_stopped_and_resumed_by_itself() -> None:
    partition = Partition()
    partition.poison = PoisonLimits(in_a_row=2)
    await partition.restart()

    bad = [record(CREATED, n, b"{", partition=ADDED) for n in range(3)]
    await partition.feed(*bad)
    await partition.restart()
    await partition.feed(created(0, partition=0))

    assert partition.lane.stopped.keys() == {NAME}
    assert partition.rows()["merchants"].keys() == {M1}
    await partition.feed(order(0, "resume_input"))
    assert not partition.lane.stopped
    await partition.feed(created(2, M2))
    assert [copy.key for copy in forwarded(partition)] == [M2.encode()]


async def test_operator_accepts_an_added_partition_once() -> None:
    partition = await Partition().restart()

    await partition.feed(order(0, "accept_topic"))
    await partition.restart()
    await partition.feed(order(1, "accept_topic"), order(2, "accept_topic", partition=0))
    await partition.feed(order(3, "accept_topic", topic=names.JOURNAL))

    assert partition.lane.inputs.accepted == {NAME, f"{names.JOURNAL}[{ADDED}]"}
    assert reasons(partition) == [
        f"NOTHING_TO_ACCEPT: the topic of {NAME} is accepted already",
        f"NOTHING_TO_ACCEPT: the topic of {CREATED}[0] has not changed",
    ]


async def test_shop_on_an_added_partition_is_a_dead_letter() -> None:
    partition = await Partition().restart()
    shop = {"platform": "shopify", "domain": "anna.example", "merchant_id": M1}

    await partition.feed(record(names.SHOPS, 0, shop, partition=ADDED))

    assert partition.rows()["shops"] == {}
    (letter,) = partition.dead_letters()
    assert RecordRef(letter["topic"], letter["partition"], letter["offset"]) == (names.SHOPS, 1, 0)


async def test_worker_refuses_rows_of_another_number_of_partitions() -> None:
    partition = await Partition().restart()
    await partition.feed(*(created(n, f"{n:08}-0000-4000-8000-000000000000", 0) for n in range(9)))
    changelog = partition.log.read(TOPICS.changelog("billing_records"))
    rows = [(row.key or b"", row.value) for row in changelog]
    processor = partition.processor
    processor.partitions = 2

    with pytest.raises(SettingsError, match="not written with BILLING_PARTITIONS=2"):
        processor.restore("billing_records", [row for row in rows if row[0] > b"\x01"])
