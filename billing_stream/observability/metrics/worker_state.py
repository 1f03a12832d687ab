"""Gauges that are read when Prometheus asks: lanes, lag, lease, deadlines."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from msgspec import Struct
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from billing_stream.engine.input_names import input_of
from billing_stream.engine.watchdog import Watchdog
from billing_stream.processor import BillingLane
from billing_stream.tables.early_webhooks import EarlyWebhooks

# Counting goes on to this many: after a long pause a million may be due.
DUE_COUNTED_MAX = 10_000


class Lags(Struct, frozen=True):
    """How many records wait in Kafka, by (topic, partition), and when that was asked.

    `at` is in seconds since the epoch, 0 for never.
    """

    records: Mapping[tuple[str, int], int]
    at: float


class WorkerState(Collector):
    """Gauges of a worker's lanes. `ask_lags` gives the latest sample and asks no broker.

    `base` gives the name of an input without its prefix.
    """

    def __init__(
        self,
        watchdog: Watchdog,
        *,
        partitions: int,
        ask_lags: Callable[[], Lags],
        base: Callable[[str], str] = str,
    ) -> None:
        self._watchdog = watchdog
        self._lanes = watchdog.lanes
        self._partitions = partitions
        self._ask_lags = ask_lags
        self._base = base

    def describe(self) -> Iterable[Metric]:
        """The families, so that a registry can check names without collecting."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """All gauges as they are now."""
        yield from self._of_the_worker()
        yield from self._of_partitions()
        yield from self._of_inputs()

    def _of_the_worker(self) -> Iterable[Metric]:
        lanes = self._lanes
        yield _gauge("billing_partitions", "Partitions, owned or not", self._partitions)
        yield _gauge("billing_lanes_owned", "Partitions that this worker owns", len(lanes))
        yield _gauge(
            "billing_lease_held",
            "1 while no other worker can own the partitions of this one",
            lanes.lease_held,
        )
        yield _gauge(
            "billing_recovery_in_progress",
            "1 while partitions move or are restored",
            not lanes.recovered,
        )
        yield _gauge(
            "billing_transaction_protocol_version",
            "Version of Kafka's transaction protocol, 1 or 2; 0 before the first restore",
            lanes.protocol,
        )
        yield _gauge(
            "billing_worker_ready",
            "1 while the worker is ready, also during a stop",
            not self._watchdog.problems(),
        )

    def _of_partitions(self) -> Iterable[Metric]:
        owned = _family("billing_partition_owned", "1 for each partition of this worker")
        stopped = _family(
            "billing_partition_stopped",
            "1 while an input of the partition is stopped",
        )
        waiting = _family(
            "billing_partition_waiting_records",
            "Records fetched that wait for a transaction",
        )
        overdue = _family(
            "billing_due_overdue_merchants",
            f"Merchants with an overdue deadline, {DUE_COUNTED_MAX} at most",
        )
        late = _family(
            "billing_due_overdue_seconds",
            "Age of the oldest overdue deadline; 0 for none",
        )
        early = _family("billing_early_webhooks", "Webhooks that wait for their charge")
        oldest = _family(
            "billing_early_webhooks_oldest_seconds",
            "Age of the oldest early webhook; 0 for none",
        )
        not_started = _family(
            "billing_partition_not_started",
            "1 for each partition that does not start: a changelog is unreadable or lacks rows",
        )
        for partition in sorted(self._lanes.unreadable):
            not_started.add_metric([str(partition)], 1)
        now = self._lanes.clock()
        for partition, lane in sorted(self._lanes.items()):
            labels = [str(partition)]
            owned.add_metric(labels, 1)
            stopped.add_metric(labels, bool(lane.stopped))
            waiting.add_metric(labels, lane.records_waiting)
            count, seconds = _due(lane, now)
            overdue.add_metric(labels, count)
            late.add_metric(labels, seconds)
            webhooks = EarlyWebhooks.in_partition(lane.processor.rows)
            early.add_metric(labels, webhooks.count)
            oldest.add_metric(labels, webhooks.age(now))
        yield from (owned, stopped, waiting, overdue, late, early, oldest, not_started)

    def _of_inputs(self) -> Iterable[Metric]:
        lags = self._ask_lags()
        lag = GaugeMetricFamily(
            "billing_lag_records",
            "Offsets of an input that no transaction has taken",
            labels=["topic", "partition"],
        )
        for (topic, partition), count in sorted(lags.records.items()):
            if self._lanes.input(topic, partition)[0] is not None:
                lag.add_metric([topic, str(partition)], count)
        yield lag
        stopped = GaugeMetricFamily(
            "billing_input_stopped",
            "1 while an input is stopped by invalid records or a changed topic, else 0",
            labels=["topic", "partition"],
        )
        changed = GaugeMetricFamily(
            "billing_input_topic_changed",
            "1 while records of an input are missing or replaced and not accepted, else 0",
            labels=["topic", "partition"],
        )
        for partition, lane in sorted(self._lanes.items()):
            for name in sorted({*(lane.inputs.stoppable or ()), *lane.stopped}):
                (topic, number), stop = input_of(name, partition), lane.stopped.get(name)
                labels = [self._base(topic), str(number)]
                stopped.add_metric(labels, stop is not None)
                changed.add_metric(labels, stop is not None and stop.changed)
        yield from (stopped, changed)
        yield _gauge(
            "billing_lag_sampled_timestamp_seconds",
            "Time of the last sample of the lag",
            lags.at,
        )


def _due(lane: BillingLane, now: datetime) -> tuple[int, float]:
    """How many merchants are overdue, and the first of them for how many seconds."""
    first = lane.processor.deadlines.first()
    if first is None or first > now:
        return 0, 0.0
    deadlines = lane.processor.deadlines
    return deadlines.count(now, DUE_COUNTED_MAX), (now - first).total_seconds()


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _family(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["partition"])
