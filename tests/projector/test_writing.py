"""What one batch does to the tables, on a real PostgreSQL."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from billing_stream.projector import positions
from billing_stream.projector.migrate import migrate
from billing_stream.projector.projected_records import Records
from billing_stream.projector.projector_errors import PositionsMoved
from billing_stream.projector.upsert_batch import Batch, batch_of
from billing_stream.projector.writing import write
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.partition import Record, record

TOPICS = Topics("app")
RECORDS = Records(TOPICS)
MERCHANTS = TOPICS.changelog(names.BILLING_RECORDS)
PURCHASES = TOPICS.changelog(names.CREDIT_PURCHASES)
MERCHANT = "00000000-0000-4000-8000-000000000001"
PURCHASE = "00000000-0000-4000-8000-000000000002"
MOMENT = "2026-01-01T00:00:00Z"


@pytest_asyncio.fixture
async def connection(postgres_url: str) -> AsyncIterator[Any]:
    await migrate(postgres_url)
    made = await asyncpg.connect(postgres_url)
    yield made
    await made.close()


def merchant(offset: int, credits: int, version: int, **fields: Any) -> Record:
    row: dict[str, Any] = {"merchant_id": MERCHANT, "created_at": MOMENT, "updated_at": MOMENT}
    row |= {"total_credits_purchased": credits, "version": version, **fields}
    return record(MERCHANTS, offset, row, key=MERCHANT.encode())


def purchase(offset: int, status: str, version: int, **fields: Any) -> Record:
    row = {
        "id": PURCHASE,
        "merchant_id": MERCHANT,
        "credits": 100,
        "amount": "9.990",
        "currency": "USD",
    }
    row |= {"status": status, "platform": "shopify", "created_at": MOMENT, "expires_at": MOMENT}
    return record(PURCHASES, offset, {**row, "version": version, **fields}, key=PURCHASE.encode())


def event(offset: int, number: int, kind: str, sequence: int, **data: Any) -> Record:
    event_type = names.event_type(kind)
    value = {
        "event_id": f"00000000-0000-4000-9000-{number:012}",
        "event_type": event_type,
        "correlation_id": "c",
        "source_service": "billing-service",
        "timestamp": MOMENT,
        "data": {"merchant_id": MERCHANT, **data},
    }
    headers = [("sequence", b"%d" % sequence), ("cause", b"http")]
    return record(event_type, offset, value, key=MERCHANT.encode(), headers=headers)


def batch(*found: Record) -> Batch:
    """Records as they were read, each topic from its first one on."""
    read: dict[tuple[str, int], list[Any]] = {}
    for one in found:
        read.setdefault((one.topic, one.partition), []).append(one)
    return batch_of(RECORDS, read, {tp: records[0].offset for tp, records in read.items()})


async def project(connection: Any, *found: Record) -> None:
    made = batch(*found)
    await positions.add(connection, made.begins)
    await write(connection, made)


async def rewind(connection: Any) -> None:
    await connection.execute("UPDATE projection_positions SET next_offset = 0")


async def everything(connection: Any) -> list[Any]:
    tables = ("billing_records", "credit_purchases", "billing_history")
    return [await connection.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in tables]


async def test_the_same_records_again_change_nothing(connection: Any) -> None:
    records = [
        merchant(0, 100, 1),
        merchant(1, 200, 2),
        purchase(0, "pending", 1),
        purchase(1, "completed", 2, completed_at=MOMENT, platform_charge_id="c"),
        event(0, 1, "credits.purchased", 1, purchase_id=PURCHASE, credits=100, amount="9.99"),
    ]
    await project(connection, *records)
    before = await everything(connection)

    await rewind(connection)
    await project(connection, *records)

    assert await everything(connection) == before
    assert before[0][0]["total_credits_purchased"] == 200
    assert (before[1][0]["status"], str(before[1][0]["amount"])) == ("completed", "9.990")


async def test_an_older_row_does_not_replace_a_newer_one(connection: Any) -> None:
    await project(connection, merchant(0, 200, 2), purchase(0, "completed", 2))

    await rewind(connection)
    await project(connection, merchant(0, 100, 1), purchase(0, "pending", 1))

    records, purchases, _ = await everything(connection)
    assert (records[0]["total_credits_purchased"], records[0]["version"]) == (200, 2)
    assert (purchases[0]["status"], purchases[0]["version"]) == ("completed", 2)


async def test_a_batch_that_does_not_begin_where_we_stand_leaves_no_gap(connection: Any) -> None:
    await project(connection, merchant(0, 100, 1))

    for begin in (0, 2):
        with pytest.raises(PositionsMoved):
            await write(connection, batch(merchant(begin, 900, 9)))

    assert (await everything(connection))[0][0]["total_credits_purchased"] == 100


async def test_a_batch_is_written_whole_or_not_at_all(connection: Any) -> None:
    bad = batch(merchant(0, 100, 1), purchase(0, "pending", 1, merchant_id="nobody"))
    await positions.add(connection, bad.begins)

    with pytest.raises(asyncpg.DataError):
        await write(connection, bad)

    assert await everything(connection) == [[], [], []]
    assert set((await positions.load(connection, bad.begins)).values()) == {0}


async def test_positions_of_the_engine_and_merchants_only_heard_of_are_no_rows(
    connection: Any,
) -> None:
    position = record(MERCHANTS, 0, b"17", key=b"\0position/evt.merchant.created.v1")
    heard_of = merchant(1, 0, 1, created_at=None)

    await project(connection, position, heard_of)

    assert await everything(connection) == [[], [], []]
    assert await positions.load(connection, [(MERCHANTS, 0)]) == {(MERCHANTS, 0): 2}


async def test_a_tombstone_takes_the_row_away(connection: Any) -> None:
    await project(connection, merchant(0, 100, 1), purchase(0, "pending", 1))

    await project(connection, record(MERCHANTS, 1, None, key=MERCHANT.encode()))

    records, purchases, _ = await everything(connection)
    assert records == []
    assert len(purchases) == 1


async def test_the_balance_after_each_event_is_what_they_add_up_to(connection: Any) -> None:
    await project(
        connection,
        event(0, 1, "trial.started", 1, credits=500, ends_at=MOMENT),
        event(0, 2, "credits.purchased", 2, purchase_id=PURCHASE, credits=100, amount="9.99"),
        event(0, 3, "purchase.refunded", 4, purchase_id=PURCHASE, credits=30, amount="3.00"),
        event(0, 4, "credits.adjusted", 3, adjustment_id=PURCHASE, credits=-50, reason="sorry"),
        event(0, 5, "credits.imported", 5, purchase_id=PURCHASE, credits=7, amount="1"),
    )

    found = await connection.fetch("SELECT * FROM billing_history ORDER BY sequence")

    assert [row["credits_delta"] for row in found] == [0, 100, -50, -30, 7]
    assert [row["balance_after"] for row in found] == [0, 100, 50, 20, 27]
    assert found[1]["place"] == "evt.billing.credits.purchased.v1[0]@0"
    assert json.loads(found[2]["data"])["reason"] == "sorry"
    assert {row["cause"] for row in found} == {"http"}


async def test_every_kind_of_event_that_says_credits_counts_or_is_a_trial() -> None:
    """A new kind with credits must be given a sign, or a balance would be wrong."""
    from billing_stream.domain.outcomes import EventData
    from billing_stream.records.topics import CREDITS_SIGN

    kinds = {kind.kind for kind in EventData.__args__ if "credits" in kind.__struct_fields__}

    assert kinds == {*CREDITS_SIGN, "trial.started"}
    assert CREDITS_SIGN.keys() <= set(names.EVENT_TYPES)
