"""The old service's reports, word for word, and the views of this one."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from billing_stream.domain.policy import PACKS
from billing_stream.projector.migrate import migrate
from tests.support.projection import fetch

ANNA, BEN = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
DAY = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)

RECORDS = [
    # Anna's trial converts while it runs, Ben's does not.
    (ANNA, False, DAY, DAY + timedelta(days=14), 1100, DAY + timedelta(days=2)),
    (BEN, False, DAY, DAY + timedelta(days=14), 0, None),
]
PURCHASES = [
    (1, ANNA, 100, "9.99", "completed", "c1", DAY + timedelta(hours=1)),
    (2, ANNA, 1000, "69.99", "completed", "c2", DAY + timedelta(days=2)),
    (3, BEN, 500, "39.99", "refunded", "c1", DAY - timedelta(days=90)),
    (4, BEN, 100, "9.99", "pending", None, None),
]
EVENTS = [
    ("credits.purchased", ANNA, 1, 100, DAY + timedelta(hours=1), 1, "9.99"),
    ("credits.purchased", ANNA, 2, 1000, DAY + timedelta(days=2), 2, "69.99"),
    ("credits.imported", BEN, 1, 500, DAY + timedelta(days=3), 3, "39.99"),
    ("purchase.refunded", BEN, 2, -500, DAY + timedelta(days=3), 3, "39.99"),
]


def purchase_id(number: int) -> str:
    return f"00000000-0000-4000-9000-{number:012}"


@pytest_asyncio.fixture
async def database(postgres_url: str) -> str:
    await migrate(postgres_url)
    connection: Any = await asyncpg.connect(postgres_url)
    try:
        for row in RECORDS:
            await connection.execute(
                "INSERT INTO billing_records VALUES ($1, $2, $3, $4, $5, $6, $3, $3, 0, 1)", *row
            )
        for number, merchant, credits, amount, status, charge, completed in PURCHASES:
            await connection.execute(
                "INSERT INTO credit_purchases "
                "VALUES ($1, $2, $3, $4::text::numeric, $5, 'shopify', $6, $7, $8, $7, 1)",
                purchase_id(number), merchant, credits, amount, status, charge,
                completed or DAY, completed,
            )  # fmt: skip
        for n, (kind, merchant, sequence, delta, at, purchase, amount) in enumerate(EVENTS):
            await connection.execute(
                "INSERT INTO billing_events VALUES ($1, $2, $3, $4, 'http', 'c', $5, $6, 't', 0, "
                "$7, jsonb_build_object('purchase_id', $8::text, 'amount', $9::text))",
                purchase_id(100 + n), merchant, f"evt.billing.{kind}.v1", sequence, at, delta, n,
                purchase_id(purchase), amount,
            )  # fmt: skip
    finally:
        await connection.close()
    return postgres_url


@pytest.mark.parametrize(
    ("report", "found"),
    [
        (
            "SELECT status, COUNT(*) AS count FROM credit_purchases GROUP BY status "
            "ORDER BY status",
            [("completed", 2), ("pending", 1), ("refunded", 1)],
        ),
        (
            "SELECT merchant_id::text, SUM(credits) AS credits, SUM(amount) AS amount "
            "FROM credit_purchases WHERE status = 'completed' GROUP BY merchant_id",
            [(ANNA, 1100, Decimal("79.98"))],
        ),
        (
            'SELECT "id"::text, "amount"::text FROM "public"."credit_purchases" '
            f'WHERE "merchant_id" = \'{ANNA}\' ORDER BY "created_at" DESC LIMIT 1',
            [(purchase_id(2), "69.99")],
        ),
        (
            "SELECT b.merchant_id::text, p.credits FROM billing_records b "
            "JOIN credit_purchases p ON p.merchant_id = b.merchant_id "
            "WHERE p.platform_charge_id = 'c2' AND NOT b.trial_available",
            [(ANNA, 1000)],
        ),
        (
            "SELECT COUNT(*) AS count FROM credit_purchases "
            "WHERE status = 'pending' AND expires_at < NOW()",
            [(1,)],
        ),
        (
            "SELECT COUNT(*) AS count FROM billing_records "
            "WHERE trial_ends_at BETWEEN '2026-03-10' AND '2026-03-20'",
            [(2,)],
        ),
        (
            "SELECT merchant_id::text FROM billing_records "
            "WHERE total_credits_purchased > 0 AND last_purchase_at IS NOT NULL",
            [(ANNA,)],
        ),
    ],
)
async def test_an_old_report_runs_unchanged(
    database: str, report: str, found: list[tuple[Any, ...]]
) -> None:
    assert [tuple(row.values()) for row in await fetch(database, report)] == found


async def test_revenue_is_told_per_utc_day_and_pack(database: str) -> None:
    rows = await fetch(database, "SELECT * FROM billing_revenue_daily ORDER BY day, pack")

    told = [(r["day"], r["pack"], r["purchases"], r["refunds"], str(r["net"])) for r in rows]
    assert told == [
        # Paid before the move: on the day it was paid, not that of the import.
        (date(2025, 12, 1), "medium", 1, 0, "39.99"),
        (date(2026, 3, 2), "small", 1, 0, "9.99"),
        (date(2026, 3, 3), "large", 1, 0, "69.99"),
        (date(2026, 3, 4), "medium", 0, 1, "-39.99"),
    ]


async def test_trials_that_led_to_a_purchase_are_counted_by_the_day_they_began(
    database: str,
) -> None:
    rows = await fetch(database, "SELECT * FROM billing_trial_conversion")

    assert [(r["day"], r["trials"], r["converted"], r["converted_during_trial"]) for r in rows] == [
        (date(2026, 3, 1), 2, 1, 1)
    ]
    assert rows[0]["conversion"] == Decimal("0.5")


async def test_the_view_knows_the_packs_that_are_sold(database: str) -> None:
    definition = await fetch(database, "SELECT pg_get_viewdef('billing_revenue_daily') AS text")

    for name, pack in PACKS.items():
        assert f"WHEN {pack.credits} THEN '{name}'" in definition[0]["text"]
