"""The projection on a real PostgreSQL, in tables that the test makes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from billing_stream.audit.verify.log_source import VerifyError
from billing_stream.records import topics as names
from tests.verify.traffic import rich_world
from tests.verify.world import Copy, merchant_id

TABLES = """
DROP TABLE IF EXISTS billing_records, credit_purchases;
CREATE TABLE billing_records (
    merchant_id uuid PRIMARY KEY, trial_available boolean, trial_started_at timestamptz,
    trial_ends_at timestamptz, total_credits_purchased integer, last_purchase_at timestamptz,
    created_at timestamptz, updated_at timestamptz);
CREATE TABLE credit_purchases (
    id uuid PRIMARY KEY, merchant_id uuid, credits integer, amount numeric(12, 2), status text,
    platform text, platform_charge_id text UNIQUE, created_at timestamptz,
    completed_at timestamptz, expires_at timestamptz);
"""
COLUMNS = {
    names.BILLING_RECORDS: "merchant_id trial_available trial_started_at trial_ends_at "
    "total_credits_purchased last_purchase_at created_at updated_at",
    names.CREDIT_PURCHASES: "id merchant_id credits amount status platform platform_charge_id "
    "created_at completed_at expires_at",
}
DEFAULTS = {"trial_available": True, "total_credits_purchased": 0}


@pytest_asyncio.fixture
async def copy() -> Copy:
    return (await rich_world()).copy()


@pytest_asyncio.fixture
async def connection(postgres_url: str) -> AsyncIterator[Any]:
    made = await asyncpg.connect(postgres_url)
    await made.execute("DROP TABLE IF EXISTS billing_records, credit_purchases")
    yield made
    await made.execute("DROP TABLE IF EXISTS billing_records, credit_purchases")
    await made.close()


async def project(connection: Any, copy: Copy) -> None:
    """What a projector would do."""
    await connection.execute(TABLES)
    for table, columns in COLUMNS.items():
        newest = {row.key: {**DEFAULTS, **row.data} for row in copy.rows(table)}
        rows = [{name: row.get(name) for name in columns.split()} for row in newest.values()]
        query = f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, $1)"
        await connection.execute(query, json.dumps(rows))


async def test_without_a_projection_the_report_says_so(
    copy: Copy, connection: Any, postgres_url: str
) -> None:
    unset, empty = await copy.verify(), await copy.verify(database_url=postgres_url)

    assert unset.ok
    assert empty.ok
    assert "DATABASE_URL is not set" in unset.checks["projection"].note
    assert "no table billing_records" in empty.checks["projection"].note


@pytest.mark.parametrize("allow_lag", [False, True])
async def test_a_true_projection(
    copy: Copy, connection: Any, postgres_url: str, allow_lag: bool
) -> None:
    await project(connection, copy)

    report = await copy.verify(database_url=postgres_url, allow_lag=allow_lag)

    assert report.ok, "\n".join(report.lines())
    assert report.checks["projection"].counted > 40
    assert report.checks["projection"].note == ""


@pytest.mark.parametrize(
    ("change", "parsed"),
    [
        ("UPDATE billing_records SET total_credits_purchased = 1", "total_credits_purchased is 1"),
        ("UPDATE billing_records SET trial_ends_at = now()", "trial_ends_at is"),
        ("UPDATE credit_purchases SET status = 'pending'", "status is pending"),
        ("UPDATE credit_purchases SET amount = 1", "amount is 1.00, in the log"),
        ("DELETE FROM billing_records", "billing_records: the row is missing"),
        ("DELETE FROM credit_purchases", "is missing"),
        ("ALTER TABLE credit_purchases DROP COLUMN completed_at", "no column completed_at"),
        (
            "INSERT INTO billing_records (merchant_id) VALUES ('" + merchant_id(123) + "')",
            "the log has not",
        ),
    ],
)
async def test_a_wrong_projection_is_named(
    copy: Copy, connection: Any, postgres_url: str, change: str, parsed: str
) -> None:
    await project(connection, copy)
    await connection.execute(change)

    report = await copy.verify(database_url=postgres_url)

    assert report.faults() == {"projection"}
    assert any(parsed in fault.what for fault in report.checks["projection"].examples)


async def test_no_database_is_an_error_that_shows_no_password(copy: Copy) -> None:
    with pytest.raises(VerifyError) as caught:
        await copy.verify(database_url="postgresql://me:secret@127.0.0.1:1/db")

    assert "secret" not in str(caught.value)
