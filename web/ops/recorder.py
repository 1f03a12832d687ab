"""The last hour of this worker, by minutes: the counts of its metrics.

Memory is bounded: sixty minutes, and the latest few looks at the counters.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Struct
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Sample

from billing_stream.engine.lanes import Lanes
from billing_stream.observability.metrics.worker_metrics import (
    HTTP_SECONDS,
    TRANSACTION_SECONDS,
    WorkerMetrics,
)

LOOK_SECONDS = 5.0
MINUTES = 60
# "Now" is between the latest look and the one so many before.
LOOKS_NOW = 2
# Requests of merchants and platforms: what the dashboard or Prometheus asks is not load.
ROUTES = ("/api/", "/webhooks/")


class Counts(Struct, frozen=True):
    """What happened in some time.

    `commits` and `answers` are how many transactions and HTTP requests took how long: one
    number per bucket of the histograms, the last for what was longer than all of them.
    `failures` are answers of 500 and above; `events` are those published, by kind.
    """

    records: int = 0
    transactions: int = 0
    requests: int = 0
    failures: int = 0
    letters: int = 0
    commits: tuple[int, ...] = (0,) * (len(TRANSACTION_SECONDS) + 1)
    answers: tuple[int, ...] = (0,) * (len(HTTP_SECONDS) + 1)
    events: dict[str, int] = {}


class Minute(Struct, frozen=True):
    """What happened in a minute; `at` counts minutes since the epoch."""

    at: int
    counts: Counts


class CurrentRates(Struct, frozen=True):
    """What happened in the latest few seconds."""

    seconds: float
    counts: Counts


class Rate(Struct, frozen=True):
    """Of one partition, per second."""

    records: float = 0.0
    transactions: float = 0.0


class _Sample(Struct, frozen=True):
    at: float
    counts: Counts
    lanes: dict[int, tuple[int, int]]


class Recorder:
    """Looks at the counters of one worker. `clock` gives seconds since the epoch."""

    def __init__(
        self, metrics: WorkerMetrics, lanes: Lanes[Any], clock: Callable[[], float] = time.time
    ) -> None:
        self._metrics = metrics
        self._lanes = lanes
        self._clock = clock
        self._looks: deque[_Sample] = deque([self._taken()], LOOKS_NOW + 1)
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)

    def look(self) -> None:
        """See what was counted since the last look."""
        before, now = self._looks[-1], self._taken()
        self._looks.append(now)
        minute, done = int(now.at // 60), less(now.counts, before.counts)
        if self._minutes and self._minutes[-1].at == minute:
            self._minutes[-1] = Minute(minute, together([self._minutes[-1].counts, done]))
        else:
            self._minutes.append(Minute(minute, done))

    def minutes(self) -> list[Minute]:
        """The last hour; a minute in which this worker did not run is not there."""
        oldest = int(self._clock() // 60) - MINUTES
        return [minute for minute in self._minutes if minute.at > oldest]

    def now(self) -> CurrentRates:
        """The latest few seconds."""
        first, last = self._looks[0], self._looks[-1]
        return CurrentRates(last.at - first.at, less(last.counts, first.counts))

    def rate(self, partition: int) -> Rate:
        """The rate of a partition in the latest few seconds."""
        first, last = self._looks[0], self._looks[-1]
        seconds = last.at - first.at
        records, transactions = last.lanes.get(partition, (0, 0))
        if seconds <= 0 or partition not in last.lanes:
            return Rate()
        before = first.lanes.get(partition, (0, 0))
        # It came anew meanwhile, and counts from nothing.
        if before[0] > records or before[1] > transactions:
            before = (0, 0)
        return Rate((records - before[0]) / seconds, (transactions - before[1]) / seconds)

    async def watch(self) -> None:
        """Look from time to time, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def _taken(self) -> _Sample:
        lanes = {
            p: (lane.stats.records, lane.stats.transactions) for p, lane in self._lanes.items()
        }
        return _Sample(self._clock(), counted(self._metrics), lanes)


def counted(metrics: WorkerMetrics) -> Counts:
    """All that was counted since the worker began."""
    transactions = _buckets(metrics.transaction_seconds)
    answers = _buckets(metrics.http_seconds, ROUTES)
    return Counts(
        records=sum(_by(metrics.records, "topic").values()),
        transactions=sum(transactions),
        requests=sum(answers),
        failures=sum(
            count
            for code, count in _by(metrics.http_requests, "code", ROUTES).items()
            if code.startswith("5")
        ),
        letters=sum(_by(metrics.dead_letters, "reason").values()),
        commits=transactions,
        answers=answers,
        events=_by(metrics.events, "event"),
    )


def together(some: Iterable[Counts]) -> Counts:
    """All of them added up."""
    found = list(some)
    return _each(lambda *values: sum(values), *found) if found else Counts()


def less(counts: Counts, before: Counts) -> Counts:
    """What came since `before`."""
    return _each(lambda value, old: value - old, counts, before)


def _each(put_together: Callable[..., int], *some: Counts) -> Counts:
    """Each number put together with the same one of the others."""

    def figure(values: Sequence[Any]) -> Any:
        if isinstance(values[0], int):
            return put_together(*values)
        if isinstance(values[0], tuple):
            return tuple(put_together(*same) for same in zip(*values, strict=True))
        kinds = sorted({kind for one in values for kind in one})
        by_kind = {kind: put_together(*(one.get(kind, 0) for one in values)) for kind in kinds}
        return {kind: count for kind, count in by_kind.items() if count}

    return Counts(*map(figure, zip(*map(msgspec.structs.astuple, some), strict=True)))


def quantile(part: float, buckets: Sequence[float], counts: Sequence[int]) -> float | None:
    """Below how many seconds `part` of them lie, as Prometheus reckons; None when there are none.

    >>> quantile(0.5, (1, 2), (2, 2, 0)), quantile(0.99, (1, 2), (0, 0, 1))
    (1.0, 2.0)
    >>> print(quantile(0.5, (1, 2), (0, 0, 0)))
    None
    """
    total = sum(counts)
    if not total:
        return None
    wanted, lower, seen = part * total, 0.0, 0
    for upper, count in zip(buckets, counts, strict=False):
        if count and seen + count >= wanted:
            return float(lower + (upper - lower) * (wanted - seen) / count)
        seen += count
        lower = upper
    return float(buckets[-1])


def _by(
    metric: MetricWrapperBase, label: str, routes: tuple[str, ...] | None = None
) -> dict[str, int]:
    """The values of a counter by one of its labels."""
    found: dict[str, int] = {}
    for sample in _samples(metric, "_total", routes):
        name = sample.labels[label]
        found[name] = found.get(name, 0) + int(sample.value)
    return found


def _buckets(metric: MetricWrapperBase, routes: tuple[str, ...] | None = None) -> tuple[int, ...]:
    """How many were in each bucket of a histogram, all its labels together."""
    upto: dict[float, int] = {}
    for sample in _samples(metric, "_bucket", routes):
        bound = float(sample.labels["le"])
        upto[bound] = upto.get(bound, 0) + int(sample.value)
    bounds = sorted(upto)
    if not bounds:
        return (0,) * (len(HTTP_SECONDS) + 1)
    return (upto[bounds[0]], *(upto[b] - upto[a] for a, b in pairwise(bounds)))


def _samples(
    metric: MetricWrapperBase, suffix: str, routes: tuple[str, ...] | None
) -> Iterable[Sample]:
    for family in metric.collect():
        for sample in family.samples:
            if sample.name.endswith(suffix) and (
                routes is None or sample.labels["route"].startswith(routes)
            ):
                yield sample
