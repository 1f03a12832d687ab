"""Trials, purchases and revenue from a worker's own rows: for where there is no projection.

They are walked a slice at a time, so that nothing else waits, and only while someone looks
(`web.ops.shared`).
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TypeVar

from msgspec import Struct

from billing_stream.domain.model import Merchant, PurchaseStatus
from billing_stream.processor import BillingLanes
from billing_stream.web.ops.business import Amounts, Business, PurchasesOf, Today, Trials, added

# About a millisecond.
SLICE = 2_000
DAY = timedelta(days=1)
PAID = (PurchaseStatus.COMPLETED, PurchaseStatus.REFUNDED)

Row = TypeVar("Row")
# Currency and amount.
Price = tuple[str, str]


class _Counted(Struct):
    merchants: int = 0
    started: int = 0
    running: int = 0
    converted: int = 0
    ending_day: int = 0
    ending_week: int = 0


class OwnRows:
    """Counts what the lanes of a worker have in memory."""

    def __init__(self, lanes: BillingLanes) -> None:
        self._lanes = lanes

    async def count(self) -> Business:
        """All of it."""
        committed = [lane.processor.rows for lane in self._lanes.values()]
        now = self._lanes.clock()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        trials, purchases = _Counted(), Counter[tuple[str, str, Price]]()
        today = Counter[Price]()
        for rows in committed:
            # What changes while we walk is seen or not: a list does not mind.
            for merchants in _slices(list(rows.merchants.values())):
                _count_merchants(trials, merchants, now)
                await asyncio.sleep(0)
            for bought in _slices(list(rows.purchases.values())):
                real = [p for p in bought if not p.test]
                purchases.update((p.status, p.platform, (p.currency, p.amount)) for p in real)
                today.update(
                    (p.currency, p.amount)
                    for p in real
                    if p.completed_at is not None and p.completed_at >= midnight
                    if p.status in PAID
                )
                await asyncio.sleep(0)
        return Business(
            merchants=trials.merchants,
            trials=Trials(*(getattr(trials, name) for name in Trials.__struct_fields__)),
            purchases=list(_by_status(purchases)),
            today=Today(today.total(), _sum(today)),
        )


def _slices(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    walk = iter(rows)
    while part := list(islice(walk, SLICE)):
        yield part


def _count_merchants(trials: _Counted, merchants: Iterable[Merchant], now: datetime) -> None:
    for merchant in merchants:
        trials.merchants += merchant.created_at is not None
        begun, ends = merchant.trial_started_at, merchant.trial_ends_at
        if begun is None or ends is None:
            continue
        trials.started += 1
        paid = merchant.last_purchase_at
        trials.converted += paid is not None and paid >= begun
        # A test clock may be ahead.
        clock = merchant.time(now)
        if ends > clock:
            trials.running += 1
            trials.ending_day += ends <= clock + DAY
            trials.ending_week += ends <= clock + 7 * DAY


def _by_status(counted: Counter[tuple[str, str, Price]]) -> Iterator[PurchasesOf]:
    found: dict[tuple[str, str], Counter[Price]] = {}
    for (status, platform, price), count in counted.items():
        found.setdefault((status, platform), Counter())[price] = count
    for (status, platform), prices in sorted(found.items()):
        yield PurchasesOf(str(status), str(platform), prices.total(), _sum(prices))


def _sum(prices: Counter[Price]) -> Amounts:
    return added(
        {currency: str(Decimal(amount) * count)} for (currency, amount), count in prices.items()
    )
