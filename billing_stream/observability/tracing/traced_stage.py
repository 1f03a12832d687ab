"""A transaction that traces the commands which came with a traceparent.

The events and journal entries of such a command carry the traceparent of its decision. It is not a
part of what they say: a command that is decided again after a crash has another one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import msgspec

from billing_stream.domain.outcomes import TimedReply
from billing_stream.engine.partition_processor import Outgoing, Request, RequestFailed
from billing_stream.observability.tracing.spans import (
    TRACEPARENT,
    Attributes,
    Tracing,
    TransactionSpan,
    traceparent_of,
)
from billing_stream.processor import BillingProcessor, BillingStage
from billing_stream.records.operator_commands import InputCommand
from billing_stream.records.schemas import InputRecord


class TracedStage(BillingStage):
    """As `BillingStage`. Commands without a traceparent are decided as there."""

    def __init__(self, processor: BillingProcessor, tracing: Tracing) -> None:
        super().__init__(processor)
        self._tracing = tracing
        self._span: TransactionSpan | None = None
        self._carriers = {topic for topic, _ in processor.records.event_topics.values()}
        self._carriers.add(processor.records.journal_topic)

    def add_record(self, topic: str, record: InputRecord) -> bool | InputCommand:
        parent = traceparent_of(record.headers)
        if parent is None:
            return super().add_record(topic, record)
        said: Attributes = {
            "messaging.system": "kafka",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
        }
        with self._deciding(f"decide {self._processor.bases[topic]}", parent, said):
            return super().add_record(topic, record)

    def add_request(
        self, request: Request, now: datetime, positions: dict[str, int]
    ) -> TimedReply | RequestFailed:
        if request.traceparent is None:
            return super().add_request(request, now, positions)
        name = request.command.__struct_config__.tag
        said = {
            "billing.origin": request.origin.partition(":")[0],
            "billing.correlation_id": request.correlation_id,
        }
        with self._deciding(f"decide {name}", request.traceparent, said):
            return super().add_request(request, now, positions)

    def apply(self) -> None:
        super().apply()
        if self._span is not None:
            self._span.committed()

    @contextmanager
    def _deciding(self, name: str, parent: str, said: Attributes) -> Iterator[None]:
        if self._span is None:
            self._span = self._tracing.transaction(self._processor.partition, parent)
        before = len(self._out)
        with self._span.deciding(name, parent, said) as traceparent:
            yield
        mine = (TRACEPARENT, traceparent.encode())
        self._out[before:] = [self._with(mine, out) for out in self._out[before:]]

    def _with(self, header: tuple[str, bytes], out: Outgoing) -> Outgoing:
        if out.topic not in self._carriers:
            return out
        return msgspec.structs.replace(out, headers=(*out.headers, header))
