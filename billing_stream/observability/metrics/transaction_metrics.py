"""Counts the engine's observations. See `engine.observer`.

Everything is counted per transaction. What needs a look at each record that was written is one
pass in C; requests and dead letters are counted one by one.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, cast

from billing_stream.domain.outcomes import Rejected, TimedReply
from billing_stream.engine.observer import Transaction
from billing_stream.engine.partition_processor import RequestFailed
from billing_stream.observability.metrics.business_metrics import BusinessMetrics
from billing_stream.observability.metrics.worker_metrics import WorkerMetrics
from billing_stream.processor import INTERNAL_ERROR, BillingStage
from billing_stream.records import topics as names
from billing_stream.records.dead_letters import NO_ROOM
from billing_stream.records.topics import Topics
from billing_stream.tables.charges import UNCLAIMED

DONE = "DONE"
FORWARDED = "FORWARDED"

# What a record of a topic asks for. Of commands from a topic the kind is not looked at.
KINDS = {
    names.MERCHANT_CREATED: "create_merchant",
    names.PURCHASE_UPDATED: "update_charge",
    names.PURCHASE_REFUNDED: "refund_charge",
    names.PURCHASE_DISPUTED: "dispute_charge",
    names.REFUND_FAILED: "fail_refund",
    names.COMMANDS: "command",
    names.SHOPS: "register_shop",
    names.CHARGES: "register_charge",
    names.OPERATOR_COMMANDS: "operator_command",
}
PASS_TIME = "pass_time"

_topic_of = attrgetter("topic")


class TransactionMetrics:
    """The observer of one worker's lanes. `currencies` are those of the packs."""

    def __init__(
        self, metrics: WorkerMetrics, topics: Topics, currencies: Iterable[str] = ()
    ) -> None:
        self._metrics = metrics
        self._business = BusinessMetrics(metrics, topics, currencies)
        self._topics = topics
        self._inputs = {topics.name(base): base for base in names.INPUTS}
        # Topics that are written to, with the counter of each: no name is looked up again.
        self._written = {
            topics.name(names.event_type(kind)): metrics.events.labels(kind)
            for kind in names.EVENT_TYPES
        } | {topics.changelog(table): metrics.rows.labels(table) for table in names.TABLES}
        for base in names.INPUTS:
            metrics.records.labels(base)

    def committed(self, transaction: Transaction[BillingStage]) -> None:
        """See `engine.observer.Observer`."""
        metrics = self._metrics
        metrics.transaction_seconds.observe(transaction.seconds)
        metrics.transaction_written.observe(len(transaction.written))
        topics = Counter(map(_topic_of, transaction.written))
        for topic, count in topics.items():
            counter = self._written.get(topic)
            if counter is not None:
                counter.inc(count)
        self._business.count(transaction.written, topics.keys())
        stage = transaction.stage
        self._count_inputs(transaction, stage)
        self._count_requests(transaction)
        for source, count in Counter(stage.internal_errors).items():
            metrics.internal_errors.labels(source).inc(count)
        metrics.expiry_steps.inc(stage.steps.partial)
        metrics.commands_held.inc(stage.held)
        for claim, count in Counter(stage.shop_claims).items():
            metrics.shop_claims.labels(claim).inc(count)
        if stage.time_advanced_for:
            metrics.decisions.labels(PASS_TIME, DONE).inc(len(stage.time_advanced_for))

    def restored(self, partitions: Sequence[int], records: int, seconds: float) -> None:
        """See `engine.observer.Observer`."""
        self._metrics.recovery_seconds.observe(seconds)
        self._metrics.recovery_records.inc(records)

    def _count_inputs(self, transaction: Transaction[BillingStage], stage: BillingStage) -> None:
        metrics = self._metrics
        done: Counter[str] = Counter()
        for inputs in transaction.inputs:
            done[self._inputs[inputs.topic]] += inputs.records
        for base, count in done.items():
            metrics.records.labels(base).inc(count)
        metrics.transaction_inputs.observe(done.total())
        for base, count in Counter(stage.forwarded).items():
            metrics.decisions.labels(KINDS[base], FORWARDED).inc(count)
            done[base] -= count
        for (topic, code), count in Counter(stage.refused).items():
            base = self._inputs[topic]
            metrics.dead_letters.labels(base, code).inc(count)
            if code not in (UNCLAIMED, NO_ROOM):
                metrics.decisions.labels(KINDS[base], code).inc(count)
                done[base] -= count
        for base, count in done.items():
            # Not below 0: records that are read again after a seek are counted and not decided.
            metrics.decisions.labels(KINDS[base], DONE).inc(max(0, count))

    def _count_requests(self, transaction: Transaction[BillingStage]) -> None:
        for request, answered in zip(transaction.requests, transaction.replies, strict=True):
            outcome = _outcome(answered)
            kind = request.command.__struct_config__.tag
            self._metrics.decisions.labels(kind, outcome).inc()


def _outcome(answered: Any) -> str:
    if isinstance(answered, RequestFailed):
        return INTERNAL_ERROR
    reply = cast(TimedReply, answered).reply
    return reply.code if isinstance(reply, Rejected) else DONE
