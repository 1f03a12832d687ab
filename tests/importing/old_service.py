"""The old service's database, filled with merchants, and with the faults its data has."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import asyncpg

FOLDER = Path(__file__).parent
EVERY = 1_000
"""Each fault is in one merchant of so many."""

REPAIRS = Counter(
    {
        "record-missing": 2,
        "record-twice": 1,
        "record-without-time": 1,
        "trial-flag-missing": 1,
        "trial-dates-without-flag": 1,
        "trial-flag-without-dates": 1,
        "trial-without-start": 1,
        "trial-without-end": 1,
        "trial-ends-before-start": 1,
        "last-purchase-behind": 2,
        "time-unreadable": 1,
        "purchase-twice": 1,
        "status-spelling": 1,
        "platform-spelling": 1,
        "platform-unknown": 1,
        "charge-spelling": 1,
        "charge-unusable": 1,
        "charge-twice": 1,
        "amount-rounded": 1,
        "amount-missing": 1,
        "purchase-without-time": 1,
        "purchase-without-expiry": 1,
        "payment-without-time": 1,
        "payment-time-unpaid": 1,
    }
)
"""How often each rule repairs, in so many merchants."""

REJECTS = Counter(
    {
        # The record and its two purchases.
        "merchant-no-uuid": 3,
        "record-no-time": 1,
        "purchase-no-uuid": 1,
        "purchase-of-two": 1,
        "purchase-no-time": 1,
        "credits-unusable": 1,
        "amount-unusable": 1,
        "status-unknown": 1,
    }
)

TOTALS_DIFFER = 5
"""One that was written wrong, four whose paid purchase is rejected (42, 40, 43, 44)."""


@dataclass(frozen=True)
class Filled:
    """What was in the tables before the faults were made."""

    merchants: int
    purchases: int
    credits: int


async def fill(url: str, merchants: int, *, faults: bool = True) -> Filled:
    """Make the tables and fill them; `merchants` in thousands when there are to be faults."""
    connection = await asyncpg.connect(url, timeout=20)
    try:
        for name in ("old_schema", "old_rows"):
            await connection.execute((FOLDER / f"{name}.sql").read_text())
        await connection.execute("SELECT fill($1)", merchants)
        row = await connection.fetchrow(
            "SELECT count(*), sum(credits) FILTER (WHERE status = 'COMPLETED') "
            "FROM credit_purchases"
        )
        if faults:
            if merchants % EVERY:
                raise ValueError(f"the faults are made in every {EVERY} merchants")
            await connection.execute((FOLDER / "old_faults.sql").read_text())
        await connection.execute("ANALYZE")
        return Filled(merchants, row[0], row[1])
    finally:
        await connection.close()
