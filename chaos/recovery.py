"""How long it took: percentiles, and the goals."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

P50_SECONDS_MAX = 15.0
P99_SECONDS_MAX = 60.0


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of all are not above; 0 without values.

    >>> percentile([1, 2, 3, 4], 0.5), percentile([1, 2, 3, 4], 0.99)
    (2, 4)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else 0.0


@dataclass(frozen=True)
class Recoveries:
    """Seconds of all recoveries together."""

    count: int
    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Recoveries":
        """Of these."""
        found = list(seconds)
        return cls(
            len(found), percentile(found, 0.5), percentile(found, 0.99), max(found, default=0.0)
        )

    @property
    def met(self) -> bool:
        """Whether both goals are."""
        return self.p50 <= P50_SECONDS_MAX and self.p99 <= P99_SECONDS_MAX


def slope(points: list[tuple[float, float]]) -> float:
    """The slope of the straight line through these points that fits best (least squares)."""
    count = len(points)
    if count < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
