"""Trials, purchases and revenue: what they are called, and how parts of them are put together."""

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

Amounts = dict[str, str]
"""Decimal text by currency."""


class PurchasesOf(Struct, frozen=True):
    """Purchases of one status and platform; `amounts` are theirs together, by currency."""

    status: str
    platform: str
    count: int
    amounts: Amounts


class Trials(Struct, frozen=True):
    """Trials: ever started, running now, of merchants that paid afterwards, ending soon.

    `ending_day` and `ending_week` count those of the running that end within 24 hours, 7 days.
    """

    started: int = 0
    running: int = 0
    converted: int = 0
    ending_day: int = 0
    ending_week: int = 0


class Today(Struct, frozen=True):
    """Since midnight UTC; amounts by currency.

    `refunds` and `refunded` are None where the times of refunds are unknown.
    """

    purchases: int = 0
    revenue: Amounts = {}
    refunds: int | None = None
    refunded: Amounts | None = None


class Business(Struct, frozen=True):
    """All of it, without test purchases. `merchants` are those with a billing record."""

    merchants: int
    trials: Trials
    purchases: list[PurchasesOf]
    today: Today

    def count(self, status: str) -> int:
        """How many purchases there are of a status."""
        return sum(p.count for p in self.purchases if p.status == status)

    def amounts(self, status: str) -> Amounts:
        """The amounts of all purchases of a status."""
        return added(p.amounts for p in self.purchases if p.status == status)


def added(parts: Iterable[Amounts]) -> Amounts:
    """Amounts together, each currency for itself.

    >>> added([{"USD": "9.99"}, {"JPY": "500", "USD": "0.01"}])
    {'JPY': '500', 'USD': '10.00'}
    """
    found: dict[str, Decimal] = {}
    for part in parts:
        for currency, amount in part.items():
            found[currency] = found.get(currency, Decimal(0)) + Decimal(amount)
    return {currency: str(amount) for currency, amount in sorted(found.items())}


def put_together(parts: Iterable[Business]) -> Business:
    """Those of all workers, which have different merchants."""
    found = list(parts)
    counts: dict[tuple[str, str], list[PurchasesOf]] = {}
    for part in found:
        for of in part.purchases:
            counts.setdefault((of.status, of.platform), []).append(of)
    trials = [part.trials for part in found]
    return Business(
        merchants=sum(part.merchants for part in found),
        trials=Trials(
            *(sum(getattr(one, name) for one in trials) for name in Trials.__struct_fields__)
        ),
        purchases=[
            PurchasesOf(*named, sum(of.count for of in each), added(of.amounts for of in each))
            for named, each in sorted(counts.items())
        ],
        today=Today(
            sum(part.today.purchases for part in found), added(part.today.revenue for part in found)
        ),
    )
