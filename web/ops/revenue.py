"""Revenue day by day and pack by pack, and how many trials led to a purchase: both projected."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from msgspec import Struct

from billing_stream.web.projection import Projection

DAYS = (30, 90, 365)
WEEKS = 12
# Asked once for all who look, who wait for less.
SECONDS = 20.0

# Paid purchases by the day they were paid (imported ones too), refunds by the day they were made.
_REVENUE = """
SELECT day, currency, pack, sum(purchases)::bigint AS purchases, sum(revenue) AS revenue,
    sum(refunds)::bigint AS refunds, sum(refunded) AS refunded
FROM (
    SELECT (completed_at AT TIME ZONE 'UTC')::date AS day, COALESCE(currency, '') AS currency,
        COALESCE(pack, '') AS pack, count(*) AS purchases, sum(amount) AS revenue,
        0 AS refunds, 0 AS refunded
    FROM credit_purchases
    WHERE completed_at >= $1 AND status IN ('completed', 'refunded') AND NOT test
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT (e.at AT TIME ZONE 'UTC')::date, COALESCE(p.currency, ''), COALESCE(p.pack, ''),
        0, 0, count(*), sum((e.data->>'amount')::numeric)
    FROM billing_events e JOIN credit_purchases p ON p.id = (e.data->>'purchase_id')::uuid
    WHERE e.event_type = 'evt.billing.purchase.refunded.v1' AND e.at >= $1 AND NOT p.test
    GROUP BY 1, 2, 3
) both_ways
GROUP BY 1, 2, 3
"""
_CONVERSION = """
SELECT date_trunc('week', trial_started_at AT TIME ZONE 'UTC')::date AS week, count(*) AS started,
    count(*) FILTER (WHERE trial_ends_at > GREATEST(now(), updated_at)) AS running,
    count(*) FILTER (WHERE last_purchase_at >= trial_started_at) AS paid
FROM billing_records WHERE trial_started_at >= $1
GROUP BY 1 ORDER BY 1 DESC
"""


class DayRevenue(Struct, frozen=True):
    """A day (UTC) in one currency."""

    day: date
    revenue: Decimal
    purchases: int


class PackRevenue(Struct, frozen=True):
    """A pack in one currency; `pack` is empty where it is not known."""

    pack: str
    purchases: int
    revenue: Decimal
    refunds: int
    refunded: Decimal

    @property
    def net(self) -> Decimal:
        """Revenue without refunds."""
        return self.revenue - self.refunded


class CurrencyRevenue(Struct, frozen=True):
    """One currency: every day up to today from the oldest, the packs, and all of it together."""

    currency: str
    days: Sequence[DayRevenue]
    packs: Sequence[PackRevenue]
    total: PackRevenue


class WeekOfTrials(Struct, frozen=True):
    """Trials that started in the week from this Monday (UTC) on."""

    week: date
    started: int
    running: int
    paid: int


class Revenue(Struct, frozen=True):
    """Revenue of the last days, today among them, by currency; conversion by weeks, newest first.

    Without test purchases.
    """

    currencies: Sequence[CurrencyRevenue]
    weeks: Sequence[WeekOfTrials]


async def ask_revenue(projection: Projection, days: int) -> Revenue:
    """Revenue of the last `days`. Raises ApiError (NOT_READY)."""
    today = datetime.now(UTC).date()
    shown = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
    monday = today - timedelta(days=today.weekday(), weeks=WEEKS - 1)
    rows, weeks = await asyncio.gather(
        projection.rows(_REVENUE, _midnight(shown[0]), seconds=SECONDS),
        projection.rows(_CONVERSION, _midnight(monday), seconds=SECONDS),
    )
    names = sorted({row["currency"] for row in rows})
    return Revenue(
        [_currency(name, shown, [r for r in rows if r["currency"] == name]) for name in names],
        [WeekOfTrials(*row) for row in weeks],
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def _currency(name: str, shown: Sequence[date], rows: Sequence[Any]) -> CurrencyRevenue:
    packs = {row["pack"] for row in rows}
    by_pack = [_together(pack, (row for row in rows if row["pack"] == pack)) for pack in packs]
    days = {day: _together("", (row for row in rows if row["day"] == day)) for day in shown}
    return CurrencyRevenue(
        name,
        [DayRevenue(day, of.revenue, of.purchases) for day, of in days.items()],
        sorted(by_pack, key=lambda one: (-one.net, one.pack)),
        _together("", rows),
    )


def _together(pack: str, rows: Iterable[Any]) -> PackRevenue:
    found = list(rows)
    return PackRevenue(
        pack,
        sum(row["purchases"] for row in found),
        sum((row["revenue"] for row in found), Decimal(0)),
        sum(row["refunds"] for row in found),
        sum((row["refunded"] for row in found), Decimal(0)),
    )
