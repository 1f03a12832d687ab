"""The metrics of the projector. Names are given here once."""

import time
from collections import Counter as Counted
from collections.abc import Mapping, Sequence
from functools import partial

from aiokafka import TopicPartition
from prometheus_client import Counter, Gauge, Histogram

from billing_stream.observability.metrics.registry import new_registry
from billing_stream.projector.gaps import REPLACED, TRIMMED, Gap
from billing_stream.projector.upsert_batch import Batch

COMMIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one projector."""

    def __init__(self) -> None:
        self.registry = registry = new_registry()
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self.lag = gauge(
            "billing_projector_lag_records",
            "Committed offsets that are not in PostgreSQL yet",
            ["topic", "partition"],
        )
        self.up_to_date = gauge(
            "billing_projector_up_to_date_timestamp_seconds",
            "Last time that all partitions were projected to their ends",
        )
        self.database_up = gauge(
            "billing_projector_database_up", "1 while PostgreSQL accepts writes, else 0"
        )
        self.partitions = gauge("billing_projector_partitions", "Partitions of this projector")
        self.records = counter("billing_projector_records_total", "Records projected")
        self.rows = counter("billing_projector_rows_total", "Rows written", ["table"])
        self.rejects = counter("billing_projector_rejects_total", "Records that fit into no table")
        self.rejects_open = gauge(
            "billing_projector_rejects_open",
            "Records that fit into no table and are kept, of the whole projection",
        )
        self.rejects_fixed = counter(
            "billing_projector_rejects_fixed_total",
            "Kept records that fitted when they were tried again",
        )
        self.open_gaps = gauge(
            "billing_projector_open_gaps",
            "Gaps of the whole projection that no operator has accepted",
            ["kind"],
        )
        self.batches = counter("billing_projector_batches_total", "Transactions committed")
        self.failures = counter(
            "billing_projector_database_failures_total",
            "Failures of PostgreSQL",
            ["error"],
        )
        self.commit_seconds = Histogram(
            "billing_projector_commit_seconds",
            "Time of one transaction",
            buckets=COMMIT_SECONDS,
            registry=registry,
        )

    def committed(self, batch: Batch, seconds: float) -> None:
        """A batch was written."""
        self.commit_seconds.observe(seconds)
        self.batches.inc()
        self.records.inc(batch.records)
        self.rejects.inc(len(batch.rejects))
        for table, rows in batch.rows.items():
            self.rows.labels(table).inc(len(rows))

    def incomplete(self, gaps: Sequence[Gap], rejects: int) -> None:
        """What the projection lacks."""
        kinds = Counted(gap.kind for gap in gaps)
        for kind in (TRIMMED, REPLACED):
            self.open_gaps.labels(kind).set(kinds[kind])
        self.rejects_open.set(rejects)

    def lags(self, lags: Mapping[TopicPartition, int], *, complete: bool) -> None:
        """The lag of each partition; `complete` when these are all of this projector."""
        self.lag.clear()
        for (topic, partition), lag in lags.items():
            self.lag.labels(topic, str(partition)).set(lag)
        self.partitions.set(len(lags))
        if complete and not any(lags.values()):
            self.up_to_date.set(time.time())
