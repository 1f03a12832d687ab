"""The projection on a real PostgreSQL, in tables that the test makes."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from billing_stream.audit.verify.log_source import VerifyError
from billing_stream.audit.verify.verify_report import Report
from billing_stream.projector.migrate import migrate
from billing_stream.records import topics as names
from tests.verify.traffic import rich_world
from tests.verify.world import Copy, merchant_id

SCHEMA = "reports"
COLUMNS = {
    names.BILLING_RECORDS: "merchant_id trial_available trial_started_at trial_ends_at "
    "total_credits_purchased last_purchase_at created_at updated_at credits_adjusted version "
    "platform domain",
    names.CREDIT_PURCHASES: "id merchant_id credits amount status platform platform_charge_id "
    "created_at completed_at expires_at version currency pack test refunded_amount "
    "refunded_credits disputed_credits",
}
DEFAULTS = {
    "trial_available": True,
    "total_credits_purchased": 0,
    "credits_adjusted": 0,
    "version": 0,
    "test": False,
    "refunded_amount": 0,
    "refunded_credits": 0,
    "disputed_credits": 0,
    "platform": "",
    "domain": "",
}
SIGNS = {"credits.purchased": 1, "credits.adjusted": 1, "purchase.refunded": -1}


@pytest_asyncio.fixture
async def copy() -> Copy:
    return (await rich_world()).copy()


@pytest_asyncio.fixture
async def connection(postgres_url: str) -> AsyncIterator[Any]:
    made = await asyncpg.connect(postgres_url, server_settings={"search_path": SCHEMA})
    yield made
    await made.close()


async def project(connection: Any, copy: Copy, postgres_url: str) -> None:
    """What a projector would do."""
    await migrate(postgres_url, SCHEMA)
    for table, columns in COLUMNS.items():
        newest = {row.key: {**DEFAULTS, **row.data} for row in copy.rows(table)}
        rows = [{name: row.get(name) for name in columns.split()} for row in newest.values()]
        rows = [row for row in rows if row["created_at"] is not None]
        query = f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, $1)"
        await connection.execute(query, json.dumps(rows))
    for kind in names.EVENT_TYPES:
        for told in copy.events(kind):
            envelope, headers = told.data, dict(told.headers)
            await connection.execute(
                "INSERT INTO billing_events VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, "
                "$12)",
                envelope["event_id"], envelope["data"]["merchant_id"], envelope["event_type"],
                int(headers["sequence"] or b""), (headers["cause"] or b"").decode(),
                envelope["correlation_id"], datetime.fromisoformat(envelope["timestamp"]),
                SIGNS.get(kind, 0) * envelope["data"].get("credits", 0),
                told.topic, told.partition, told.offset, json.dumps(envelope["data"]),
            )  # fmt: skip


async def verify(copy: Copy, postgres_url: str, **options: Any) -> Report:
    return await copy.verify(database_url=postgres_url, schema=SCHEMA, **options)


async def test_without_a_projection_the_report_says_so(
    copy: Copy, connection: Any, postgres_url: str
) -> None:
    unset, empty = await copy.verify(), await verify(copy, postgres_url)

    assert unset.ok
    assert empty.ok
    assert "DATABASE_URL is not set" in unset.checks["projection"].note
    assert "schema reports has no table billing_records" in empty.checks["projection"].note


@pytest.mark.parametrize("allow_lag", [False, True])
async def test_a_true_projection(
    copy: Copy, connection: Any, postgres_url: str, allow_lag: bool
) -> None:
    await project(connection, copy, postgres_url)

    report = await verify(copy, postgres_url, allow_lag=allow_lag)

    assert report.ok, "\n".join(report.lines())
    assert report.checks["projection"].counted > 100
    assert report.checks["projection"].note == ""


@pytest.mark.parametrize(
    ("change", "parsed"),
    [
        ("UPDATE billing_records SET total_credits_purchased = 1", "total_credits_purchased is 1"),
        ("UPDATE billing_records SET trial_ends_at = now()", "trial_ends_at is"),
        ("UPDATE credit_purchases SET status = 'pending'", "status is pending"),
        ("UPDATE credit_purchases SET amount = 1", "amount is 1, in the log"),
        ("DELETE FROM billing_records", "billing_records: the row is missing"),
        ("DELETE FROM credit_purchases", "is missing"),
        ("ALTER TABLE credit_purchases DROP COLUMN completed_at CASCADE", "no column completed_at"),
        (
            "INSERT INTO billing_records (merchant_id, created_at, updated_at, version) "
            "VALUES ('" + merchant_id(123) + "', now(), now(), 1)",
            "the log has not",
        ),
        ("UPDATE billing_records SET credits_adjusted = 77", "credits_adjusted is 77"),
        ("UPDATE billing_records SET domain = 'other.example'", "domain is other.example"),
        ("DELETE FROM billing_events WHERE sequence = 2", "billing_events: the event is missing"),
        ("UPDATE billing_events SET credits_delta = 1", "credits_delta is 1"),
        ("UPDATE billing_events SET data = data || '{\"credits\": 3}'", "data says something else"),
        ("UPDATE billing_events SET cause = 'me'", "cause is me"),
        ("UPDATE billing_events SET at = now()", "at is"),
        ('UPDATE billing_events SET "offset" = 9999', "offset is 9999"),
        (
            "INSERT INTO billing_events SELECT gen_random_uuid(), merchant_id, event_type, 99, "
            'cause, correlation_id, at, 0, topic, partition, "offset", data '
            "FROM billing_events LIMIT 1",
            "an event that the log has not",
        ),
        ("DROP TABLE billing_events CASCADE", "has no table billing_events"),
        (
            "INSERT INTO projection_gaps VALUES ('evt.x', 0, 'trimmed', 3, 7)",
            "a gap (trimmed) up to offset 6, not accepted",
        ),
    ],
)
async def test_a_wrong_projection_is_named(
    copy: Copy, connection: Any, postgres_url: str, change: str, parsed: str
) -> None:
    await project(connection, copy, postgres_url)
    await connection.execute(change)

    report = await verify(copy, postgres_url)

    assert report.faults() == {"projection"}
    assert any(parsed in fault.what for fault in report.checks["projection"].examples)


async def test_shops_that_an_older_release_did_not_project_are_no_fault(
    copy: Copy, connection: Any, postgres_url: str
) -> None:
    await project(connection, copy, postgres_url)
    await connection.execute("UPDATE billing_records SET platform = NULL, domain = NULL")

    assert (await verify(copy, postgres_url)).faults() == set()


@pytest.mark.parametrize("accepted", [False, True])
async def test_events_that_log_and_table_both_lack_are_a_hole(
    copy: Copy, connection: Any, postgres_url: str, accepted: bool
) -> None:
    await project(connection, copy, postgres_url)
    kind = "credits.adjusted"
    topic = copy.events(kind)[0].topic
    for told in copy.events(kind):
        copy.drop(told)
    copy.late = [(topic, 0), (topic, 1)]
    await connection.execute("DELETE FROM billing_events WHERE topic = $1", topic)
    if accepted:
        await connection.execute(
            "INSERT INTO projection_gaps "
            "VALUES ($1, 0, 'trimmed', 0, 9, now(), now(), 'me', 'why')",
            topic,
        )

    report = await verify(copy, postgres_url)

    examples = [fault.what for fault in report.checks["projection"].examples]
    holes = [what for what in examples if "not in the log any more" in what]
    assert bool(holes) is not accepted
    assert any("accepted gaps" in note for note in report.notes) is accepted


async def test_nul_in_the_log_is_compared_with_its_mark(
    copy: Copy, connection: Any, postgres_url: str
) -> None:
    await project(connection, copy, postgres_url)
    told = copy.events("trial.started")[0]
    told.put({**told.data, "correlation_id": "a\0b"})
    await connection.execute(
        "UPDATE billing_events SET correlation_id = $1 WHERE event_id = $2",
        "a\u2400b", told.data["event_id"],
    )  # fmt: skip

    report = await verify(copy, postgres_url)

    assert report.checks["projection"].ok, "\n".join(report.lines())


async def test_no_database_is_an_error_that_shows_no_password(copy: Copy) -> None:
    with pytest.raises(VerifyError) as caught:
        await copy.verify(database_url="postgresql://me:secret@127.0.0.1:1/db")

    assert "secret" not in str(caught.value)
