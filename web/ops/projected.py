"""What the projection in PostgreSQL says: of all merchants together, and of one."""

from typing import Any

import msgspec
from msgspec import Struct

from billing_stream.domain.model import Instant
from billing_stream.web.ops.business import Business, PurchasesOf, Today, Trials
from billing_stream.web.pagination import Page
from billing_stream.web.projection import Projection

# Each is one walk over a table of one row per merchant or purchase; asked for once, whoever looks.
_TRIALS = """
SELECT count(*) AS merchants,
    count(trial_started_at) AS started,
    count(*) FILTER (WHERE trial_ends_at > clock) AS running,
    count(*) FILTER (WHERE last_purchase_at >= trial_started_at) AS converted,
    count(*) FILTER (WHERE trial_ends_at > clock AND trial_ends_at <= clock + interval '1 day')
        AS ending_day,
    count(*) FILTER (WHERE trial_ends_at > clock AND trial_ends_at <= clock + interval '7 days')
        AS ending_week
-- A merchant's test clock may be ahead.
FROM (SELECT *, GREATEST(now(), updated_at) AS clock FROM billing_records) merchants
"""
_PURCHASES = """
SELECT status, platform, sum(count)::bigint AS count,
    json_object_agg(currency, amount::text ORDER BY currency)::text AS amounts
FROM (
    SELECT status, platform, COALESCE(currency, '') AS currency, count(*) AS count,
        sum(amount) AS amount
    FROM credit_purchases WHERE NOT test GROUP BY 1, 2, 3
) summed
GROUP BY 1, 2 ORDER BY 1, 2
"""
# By the index on (event_type, at).
_TODAY = """
SELECT bought, COALESCE(currency, '') AS currency, count(*) AS count, sum(amount)::text AS amount
FROM (
    SELECT e.event_type = 'evt.billing.credits.purchased.v1' AS bought,
        (e.data->>'amount')::numeric AS amount, p.currency
    FROM billing_events e JOIN credit_purchases p ON p.id = (e.data->>'purchase_id')::uuid
    WHERE e.event_type IN ('evt.billing.credits.purchased.v1', 'evt.billing.purchase.refunded.v1')
        AND e.at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
        AND NOT p.test
) told
GROUP BY 1, 2 ORDER BY 2
"""

_object = msgspec.json.Decoder(dict[str, Any])
_sums = msgspec.json.Decoder(dict[str, str]).decode


class TimelineEntry(Struct, frozen=True):
    """One thing that happened to a merchant.

    `cause` is the record that caused it, or what came from none (http, timer, operator:...);
    `ref` is where the event itself stands. Not `complete`: earlier events are missing.
    """

    event_id: str
    sequence: int
    type: str
    at: Instant
    credits: int
    balance: int
    cause: str
    correlation_id: str
    ref: str
    data: dict[str, Any]
    complete: bool


class Projected:
    """Asks the projection; raises ApiError (NOT_READY) as it does."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection

    @property
    def there(self) -> bool:
        """Whether there is one by the settings."""
        return self._projection.there

    async def business(self) -> Business:
        """Trials, purchases and revenue of all merchants."""
        ask = self._projection.rows
        (trials,), today = await ask(_TRIALS), await ask(_TODAY)
        paid, back = ([row for row in today if row["bought"] is which] for which in (True, False))
        return Business(
            merchants=trials["merchants"],
            trials=Trials(*(trials[name] for name in Trials.__struct_fields__)),
            purchases=[
                PurchasesOf(row["status"], row["platform"], row["count"], _sums(row["amounts"]))
                for row in await ask(_PURCHASES)
            ],
            today=Today(
                sum(row["count"] for row in paid),
                {row["currency"]: row["amount"] for row in paid},
                sum(row["count"] for row in back),
                {row["currency"]: row["amount"] for row in back},
            ),
        )

    async def timeline(
        self, merchant_id: str, page: Page, *, credits_only: bool
    ) -> tuple[list[TimelineEntry], int]:
        """A page of what happened to a merchant, newest first, and how much there is in all."""
        found = await self._projection.page(merchant_id, page, credits_only=credits_only)
        return [_happened(row) for row in found.rows], found.total


def _happened(row: Any) -> TimelineEntry:
    return TimelineEntry(
        event_id=str(row["event_id"]),
        sequence=row["sequence"],
        type=row["event_type"],
        at=row["at"],
        credits=row["credits_delta"],
        balance=row["balance_after"],
        cause=row["cause"] or "",
        correlation_id=row["correlation_id"] or "",
        ref=row["place"],
        data=_object.decode(row["data"]),
        complete=row["complete"],
    )
