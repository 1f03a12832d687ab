"""What the look-ups of a worker found: taken from its metrics, which count them."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from billing_stream.observability.metrics.worker_metrics import WorkerMetrics


class Reconciliation(Struct, frozen=True):
    """Look-ups of unpaid purchases: now, and since the worker started.

    `paid_not_credited` purchases are paid at their platform and not credited here. `reported` and
    `skipped` count look-ups: by platform and state of the charge, and by platform.
    """

    paid_not_credited: int = 0
    lag_seconds: float = 0.0
    reported: dict[str, dict[str, int]] = {}
    skipped: dict[str, int] = {}

    @classmethod
    def of(cls, metrics: WorkerMetrics) -> "Reconciliation":
        """That of this worker."""
        reported: dict[str, dict[str, int]] = {}
        for labels, value in _counts(metrics.lookups_reported):
            reported.setdefault(labels["platform"], {})[labels["outcome"]] = int(value)
        skipped = {labels["platform"]: int(n) for labels, n in _counts(metrics.lookups_skipped)}
        (paid,) = _gauge(metrics.paid_not_credited)
        (lag,) = _gauge(metrics.lookup_lag)
        return cls(int(paid), lag, reported, skipped)

    @classmethod
    def together(cls, parts: Iterable["Reconciliation"]) -> "Reconciliation":
        """That of several workers."""
        found = list(parts)
        reported: dict[str, dict[str, int]] = {}
        skipped: dict[str, int] = {}
        for part in found:
            for platform, outcomes in part.reported.items():
                sums = reported.setdefault(platform, {})
                for outcome, count in outcomes.items():
                    sums[outcome] = sums.get(outcome, 0) + count
            for platform, count in part.skipped.items():
                skipped[platform] = skipped.get(platform, 0) + count
        return cls(
            sum(part.paid_not_credited for part in found),
            max((part.lag_seconds for part in found), default=0.0),
            reported,
            skipped,
        )


def _counts(metric: Any) -> Iterable[tuple[dict[str, str], float]]:
    for family in metric.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                yield sample.labels, sample.value


def _gauge(metric: Any) -> list[float]:
    return [sample.value for family in metric.collect() for sample in family.samples]
