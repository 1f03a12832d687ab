"""What an operator has to see to in the cluster: warnings of /ready, and their metrics."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from billing_stream.engine.broker_time import BrokerTime
from billing_stream.engine.lanes import Lanes
from billing_stream.kafka.added_partitions import listed
from billing_stream.kafka.cluster_watch import ClusterWatch
from billing_stream.kafka.open_transactions import OpenTransaction, OpenTransactions

AHEAD = "billing_clock_ahead_seconds"


class ClusterNotices(Collector):
    """Warnings and gauges. `base` gives the name of a topic without its prefix.

    `open_transactions` are those in the inputs; a warning of one comes after `open_seconds`.
    `open_letters` are the open dead letters by topic and reason, None while they are not known.
    `absence` is of Kafka: one line while no broker answers.
    """

    def __init__(
        self,
        lanes: Lanes[Any],
        watch: ClusterWatch,
        *,
        open_transactions: Callable[[], OpenTransactions],
        open_seconds: float,
        broker_time: BrokerTime,
        open_letters: Callable[[], Mapping[tuple[str, str], int] | None],
        absence: Callable[[], list[str]],
        base: Callable[[str], str] = str,
    ) -> None:
        self._lanes = lanes
        self._watch = watch
        self._base = base
        self._open_transactions = open_transactions
        self._open_seconds = open_seconds
        self._broker_time = broker_time
        self._open_letters = open_letters
        self._absence = absence

    def warnings(self) -> list[str]:
        """A line for each."""
        found = []
        added = self._added()
        if added:
            found.append(
                f"partitions were added to topics: {listed(added)}. Workers forward their records; "
                "`billing-stream inputs accept` ends this warning"
            )
        found += map(str, self._open(self._open_seconds))
        found += [f"another worker: {line}" for line in self._watch.mismatches]
        wrong = self._broker_time.wrong
        return [*found, wrong] if wrong is not None else found

    def describe(self) -> Iterable[Metric]:
        """The families, so that a registry can check names without collecting."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """All gauges as they are now."""
        added = GaugeMetricFamily(
            "billing_partition_added",
            "1 for each partition added to a topic and not accepted",
            labels=["topic", "partition"],
        )
        for tp in self._added():
            added.add_metric([self._base(tp.topic), str(tp.partition)], 1)
        yield added
        held_back = GaugeMetricFamily(
            "billing_input_held_back_seconds",
            "Age of the open transaction that holds back records of an input",
            labels=["topic", "partition"],
        )
        for one in self._open(0.0):
            labels = [self._base(one.topic), str(one.partition)]
            held_back.add_metric(labels, one.seconds)
        yield held_back
        yield GaugeMetricFamily(
            "billing_workers_differing",
            "Other workers that differ in settings that must be equal",
            value=len(self._watch.mismatches),
        )
        ahead = GaugeMetricFamily(
            AHEAD,
            "How far the clock of this worker is ahead of the brokers', at least; negative: behind",
        )
        known = self._broker_time.ahead
        if known is not None:
            ahead.add_metric([], known.total_seconds())
        yield ahead
        yield GaugeMetricFamily(
            "billing_kafka_away",
            "1 while no broker answers this worker, else 0",
            value=len(self._absence()),
        )
        letters = GaugeMetricFamily(
            "billing_dead_letters_open",
            "Dead letters of the whole app, neither redriven nor discarded, by input topic "
            "and reason",
            labels=["topic", "reason"],
        )
        for kind, count in sorted((self._open_letters() or {}).items()):
            letters.add_metric(kind, count)
        yield letters

    def _open(self, seconds: float) -> list[OpenTransaction]:
        found = self._open_transactions().found(seconds)
        return [one for one in found if self._lanes.input(one.topic, one.partition)[0] is not None]

    def _added(self) -> list[TopicPartition]:
        """Those of lanes of this worker that no operator has accepted."""
        found = []
        for tp in self._watch.added:
            lane, name = self._lanes.input(*tp)
            if lane is not None and name not in lane.inputs.accepted:
                found.append(tp)
        return found
