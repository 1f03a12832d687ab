"""Trials, purchases and revenue: what they are called, and how parts of them are put together."""

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct


class PurchasesOf(Struct, frozen=True):
    """Purchases of one status and platform; `amount` (decimal text) is theirs together."""

    status: str
    platform: str
    count: int
    amount: str


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
    """Since midnight UTC; amounts are decimal text.

    `refunds` and `refunded` are None where it is not known when something was paid back.
    """

    purchases: int = 0
    revenue: str = "0"
    refunds: int | None = None
    refunded: str | None = None


class Business(Struct, frozen=True):
    """All of it. `merchants` are those with a billing record."""

    merchants: int
    trials: Trials
    purchases: list[PurchasesOf]
    today: Today

    def count(self, status: str) -> int:
        """How many purchases there are of a status."""
        return sum(p.count for p in self.purchases if p.status == status)

    def amount(self, status: str) -> Decimal:
        """The amount of all purchases of a status."""
        return sum((Decimal(p.amount) for p in self.purchases if p.status == status), Decimal(0))


def put_together(parts: Iterable[Business]) -> Business:
    """Those of all workers, whose rows are of different merchants."""
    found = list(parts)
    counts: dict[tuple[str, str], tuple[int, Decimal]] = {}
    for part in found:
        for of in part.purchases:
            count, amount = counts.get((of.status, of.platform), (0, Decimal(0)))
            counts[of.status, of.platform] = (count + of.count, amount + Decimal(of.amount))
    trials = [part.trials for part in found]
    return Business(
        merchants=sum(part.merchants for part in found),
        trials=Trials(
            *(sum(getattr(one, name) for one in trials) for name in Trials.__struct_fields__)
        ),
        purchases=[
            PurchasesOf(status, platform, count, str(amount))
            for (status, platform), (count, amount) in sorted(counts.items())
        ],
        today=Today(
            sum(part.today.purchases for part in found),
            str(sum((Decimal(part.today.revenue) for part in found), Decimal(0))),
        ),
    )
