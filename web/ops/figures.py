"""What a worker reports of itself: for a page, and to the other workers."""

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from billing_stream import __version__
from billing_stream.engine.lane import Lane
from billing_stream.engine.lanes import Restoring
from billing_stream.engine.stopped_inputs import Stop, stops_of
from billing_stream.engine.watchdog import Watchdog
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.observability.metrics.worker_state import Lags
from billing_stream.tables.early_webhooks import EarlyWebhooks, early_by_merchant
from billing_stream.web.health import ready_problems
from billing_stream.web.ops.reconciliation import Reconciliation
from billing_stream.web.ops.recorder import CurrentRates, Minute, Rate, Recorder


class PartitionFigures(Struct, frozen=True):
    """A partition that is owned here.

    `lag` are records that no transaction has taken yet, None when Kafka was not asked yet;
    `last_commit` is in seconds ago, None when there was none since the partition came here.
    `stopped` says why inputs of it are stopped, `stops` has each of them. `early` are webhooks that
    wait for their charge, `early_of` those that wait at a charge, by the merchant of their shop.
    """

    partition: int
    stopped: str | None
    lag: int | None
    waiting: int
    last_commit: float | None
    rate: Rate
    # Missing where another worker is of an older release.
    stops: list[Stop] = []
    early: EarlyWebhooks = EarlyWebhooks()
    early_of: dict[str, EarlyWebhooks] = {}


class WorkerFigures(Struct, frozen=True):
    """One worker. `up` is for how many seconds it has run."""

    version: str
    up: float
    problems: list[str]
    restoring: Restoring | None
    partitions: list[PartitionFigures]
    now: CurrentRates
    minutes: list[Minute]
    # Missing where another worker is of an older release.
    reconciliation: Reconciliation = Reconciliation()


class Figures:
    """The figures of this worker. `ask_lags` gives the latest sample and asks no broker."""

    def __init__(
        self,
        watchdog: Watchdog,
        recorder: Recorder,
        ask_lags: Callable[[], Lags],
        metrics: WorkerMetrics,
    ) -> None:
        self._watchdog = watchdog
        self._metrics = metrics
        self._recorder = recorder
        self._ask_lags = ask_lags
        self._began = time.monotonic()

    def read(self) -> WorkerFigures:
        """All of them, as they are now."""
        lags = self._ask_lags()
        lanes = self._watchdog.lanes
        return WorkerFigures(
            version=__version__,
            up=time.monotonic() - self._began,
            problems=ready_problems(self._watchdog),
            restoring=lanes.restoring,
            partitions=[self._partition(p, lane, lags) for p, lane in sorted(lanes.items())],
            now=self._recorder.now(),
            minutes=self._recorder.minutes(),
            reconciliation=Reconciliation.of(self._metrics),
        )

    def _partition(self, partition: int, lane: Lane[Any], lags: Lags) -> PartitionFigures:
        stops = stops_of(partition, lane)
        known = [count for (_, number), count in lags.records.items() if number == partition]
        return PartitionFigures(
            partition=partition,
            stopped="; ".join(map(str, stops)) or None,
            lag=sum(known) if known else None,
            waiting=lane.records_waiting,
            last_commit=lane.seconds_since_commit,
            rate=self._recorder.rate(partition),
            stops=stops,
            early=EarlyWebhooks.in_partition(lane.processor.rows),
            early_of=early_by_merchant(lane.processor.rows),
        )


def not_sampled() -> Lags:
    """For processes that take no samples."""
    return Lags({}, 0.0)
