"""Counts credits and money from the events of a committed transaction.

Only what this worker committed is counted, once: a restore reads no events, and a worker that
ends between a commit and its answer has not counted it. The log has the books: `verify`.
"""

from collections import Counter
from collections.abc import Iterable, KeysView, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType

import msgspec
from msgspec import Struct

from billing_stream.domain.currencies import DECIMALS
from billing_stream.domain.model import Platform
from billing_stream.domain.outcomes import (
    CreditsAdjusted,
    CreditsImported,
    CreditsPurchased,
    PurchaseDisputeClosed,
    PurchaseDisputed,
    PurchaseRefunded,
    PurchaseRefundFailed,
)
from billing_stream.engine.partition_processor import Outgoing
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics

# What an event does to the balance: the sign of its credits.
SIGNS: Mapping[str, int] = MappingProxyType(
    {
        CreditsPurchased.kind: 1,
        CreditsImported.kind: 1,
        CreditsAdjusted.kind: 1,
        PurchaseRefundFailed.kind: 1,
        PurchaseDisputed.kind: 1,
        PurchaseDisputeClosed.kind: 1,
        PurchaseRefunded.kind: -1,
    }
)


class _Money(Struct, gc=False, frozen=True):
    credits: int
    amount: str = "0"
    currency: str | None = None
    platform: str = ""
    test: bool = False


class _Envelope(Struct, gc=False):
    data: _Money


class BusinessMetrics:
    """Counts for one worker. `currencies` are those of its packs: their series begin at 0."""

    def __init__(self, metrics: WorkerMetrics, topics: Topics, currencies: Iterable[str]) -> None:
        self._metrics = metrics
        self._kinds = {topics.name(names.event_type(kind)): kind for kind in SIGNS}
        self._decode = msgspec.json.Decoder(_Envelope).decode
        for kind in SIGNS:
            metrics.credits_granted.labels(kind)
            metrics.credits_removed.labels(kind)
        for currency in currencies:
            metrics.refunds.labels(currency)
            for platform in Platform:
                metrics.revenue.labels(currency, platform)

    def count(self, written: Iterable[Outgoing], topics: KeysView[str]) -> None:
        """Count the records of one transaction, which are of these topics."""
        if topics.isdisjoint(self._kinds):
            return
        kind_of, decode = self._kinds.get, self._decode
        # Equal ones as one: there are few packs, and a counter costs more than all else here.
        equal = Counter(
            (kind, decode(record.value).data)
            for record in written
            if (kind := kind_of(record.topic)) is not None and record.value is not None
        )
        for (kind, money), times in equal.items():
            self._count(kind, money, times)

    def _count(self, kind: str, money: _Money, times: int) -> None:
        metrics = self._metrics
        change = SIGNS[kind] * money.credits * times
        counter = metrics.credits_granted if change >= 0 else metrics.credits_removed
        counter.labels(kind).inc(abs(change))
        if money.test or money.currency is None:
            return
        if kind == CreditsPurchased.kind:
            sum_of = metrics.revenue.labels(money.currency, money.platform)
        elif kind == PurchaseRefunded.kind:
            sum_of = metrics.refunds.labels(money.currency)
        else:
            return
        sum_of.inc(times * minor_units(money.amount, money.currency))


def minor_units(amount: str, currency: str) -> int:
    """Decimal text as minor units, by ISO 4217; a fraction of one is rounded to the nearest.

    >>> minor_units("9.99", "USD"), minor_units("500", "JPY"), minor_units("1.234", "KWD")
    (999, 500, 1234)
    """
    units = Decimal(amount).scaleb(DECIMALS.get(currency, 2))
    return int(units.to_integral_value(ROUND_HALF_EVEN))
