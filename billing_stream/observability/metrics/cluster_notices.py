"""What an operator has to see to in the cluster: warnings of /ready, and their metrics."""

from collections.abc import Callable, Iterable

from aiokafka import TopicPartition
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from billing_stream.engine.lanes import Lanes
from billing_stream.kafka.added_partitions import listed
from billing_stream.kafka.cluster_watch import ClusterWatch


class ClusterNotices(Collector):
    """Warnings and gauges. `base` gives the name of a topic without its prefix."""

    def __init__(self, lanes: Lanes, watch: ClusterWatch, base: Callable[[str], str] = str) -> None:
        self._lanes = lanes
        self._watch = watch
        self._base = base

    def warnings(self) -> list[str]:
        """A line for each."""
        found = []
        added = self._added()
        if added:
            found.append(
                f"partitions were added to topics: {listed(added)}. Workers forward their records; "
                "`billing-stream inputs accept` ends this warning"
            )
        return found

    def describe(self) -> Iterable[Metric]:
        """The families, so that a registry can check names without collecting."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """All gauges as they are now."""
        added = GaugeMetricFamily(
            "billing_partition_added",
            "1 for each partition that was added to a topic, until an operator accepts it",
            labels=["topic", "partition"],
        )
        for tp in self._added():
            added.add_metric([self._base(tp.topic), str(tp.partition)], 1)
        yield added

    def _added(self) -> list[TopicPartition]:
        """Those of lanes of this worker that no operator has accepted."""
        found = []
        for tp in self._watch.added:
            lane, name = self._lanes.input(*tp)
            if lane is not None and name not in lane.inputs.accepted:
                found.append(tp)
        return found
