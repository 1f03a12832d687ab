"""What tracing adds to a transaction, and that it adds nothing else."""

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from billing_stream.app import build
from billing_stream.config.settings import Settings
from billing_stream.domain.commands import StartTrial
from billing_stream.domain.policy import Policy
from billing_stream.engine.partition_processor import Outgoing, Request
from billing_stream.errors import SettingsError
from billing_stream.observability.tracing.otel import OtelTracing
from billing_stream.observability.tracing.spans import traceparent_of
from billing_stream.observability.tracing.traced_stage import TracedStage
from billing_stream.processor import BillingProcessor, NewStage
from billing_stream.records import topics as names
from tests.support.worker import environment
from tests.upgrades.scenario import ANNA, CARL, START, TOPICS, Record

TRACE, OTHER = "4bf92f3577b34da6a3ce929d0e0e4736", "5bf92f3577b34da6a3ce929d0e0e4736"
EVENT = TOPICS.name(names.event_type("trial.started"))


def traceparent(trace: str, flags: str = "01") -> str:
    """The header of a caller."""
    return f"00-{trace}-00f067aa0ba902b7-{flags}"


def command(merchant: str, offset: int, *headers: tuple[str, bytes]) -> Record:
    """A command of another system that starts a trial."""
    value = json.dumps({"command": "start_trial", "merchant_id": merchant}).encode()
    at = int(START.timestamp() * 1000)
    return Record(TOPICS.name(names.COMMANDS), 0, offset, at, merchant.encode(), value, headers)


def created(merchant: str, offset: int) -> Record:
    """A merchant installed the app."""
    data = {"merchant_id": merchant, "platform_name": "shopify", "domain": f"{offset}.example"}
    topic, at = TOPICS.name(names.MERCHANT_CREATED), int(START.timestamp() * 1000)
    return Record(topic, 0, offset, at, merchant.encode(), json.dumps(data).encode(), ())


def decided(new_stage: NewStage | None, *records: Record) -> list[Outgoing]:
    """What a transaction of these records writes, and one request; it is applied."""
    processor = BillingProcessor(
        0,
        partitions=1,
        policy=Policy(),
        names=TOPICS,
        max_record_bytes=10_000,
        new_stage=new_stage,
    )
    stage = processor.begin()
    for number, merchant in enumerate((ANNA, CARL)):
        record = created(merchant, number)
        stage.add_record(record.topic, record)
    for record in records:
        stage.add_record(record.topic, record)
    found = list(stage.outgoing())
    stage.apply()
    return found


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Where the spans of a test go."""
    return InMemorySpanExporter()


@pytest.fixture
def traced(exporter: InMemorySpanExporter) -> Iterator[NewStage]:
    """Stages that trace."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield partial(TracedStage, tracing=OtelTracing(provider))
    provider.shutdown()


def by_name(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def test_only_headers_of_events_and_journal_are_otherwise(traced: NewStage) -> None:
    record = command(ANNA, 0, ("traceparent", traceparent(TRACE).encode()), ("x", b"y"))

    plain, with_traces = decided(None, record), decided(traced, record)

    said = [[(o.topic, o.key, o.value, o.partition) for o in out] for out in (plain, with_traces)]
    assert said[0] == said[1]
    differing = [b for a, b in zip(plain, with_traces, strict=True) if a.headers != b.headers]
    assert [out.topic for out in differing] == [EVENT]
    assert [name for name, _ in differing[0].headers] == ["sequence", "cause", "traceparent"]
    assert (traceparent_of(differing[0].headers) or "").split("-")[1] == TRACE


def test_what_comes_without_a_good_traceparent_is_not_traced(
    traced: NewStage, exporter: InMemorySpanExporter
) -> None:
    decided(traced, command(ANNA, 0), command(CARL, 1, ("traceparent", b"\xff" * 55)))
    assert exporter.get_finished_spans() == ()


def test_a_transaction_of_two_traces_is_linked_with_both(
    traced: NewStage, exporter: InMemorySpanExporter
) -> None:
    first = command(ANNA, 0, ("traceparent", traceparent(TRACE).encode()))
    second = command(CARL, 1, ("traceparent", traceparent(OTHER).encode()))

    decided(traced, first, second)

    spans = exporter.get_finished_spans()
    (transaction,) = by_name(spans, "transaction")
    decisions = by_name(spans, f"decide {names.COMMANDS}")
    assert [f"{span.context.trace_id:032x}" for span in decisions] == [TRACE, OTHER]
    assert f"{transaction.context.trace_id:032x}" == TRACE
    assert [link.context for link in transaction.links] == [span.context for span in decisions]
    assert all([link.context for link in s.links] == [transaction.context] for s in decisions)


def test_a_transaction_that_is_not_committed_is_not_told(
    traced: NewStage, exporter: InMemorySpanExporter
) -> None:
    processor = BillingProcessor(
        0, partitions=1, policy=Policy(), names=TOPICS, max_record_bytes=10_000, new_stage=traced
    )
    stage = processor.begin()
    asked = Request(StartTrial(ANNA, None, "c"), "http", "c-1", traceparent(TRACE))
    stage.add_request(asked, START, {})
    assert by_name(exporter.get_finished_spans(), "transaction") == []
    assert len(by_name(exporter.get_finished_spans(), "decide start_trial")) == 1


def test_who_is_not_sampled_makes_no_spans_and_stays_so(
    traced: NewStage, exporter: InMemorySpanExporter
) -> None:
    out = decided(traced, command(ANNA, 0, ("traceparent", traceparent(TRACE, "00").encode())))
    (event,) = [one for one in out if one.topic == EVENT]
    assert exporter.get_finished_spans() == ()
    assert (traceparent_of(event.headers) or "").endswith("-00")


def test_without_the_libraries_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment("127.0.0.1:9", "x.", BILLING_TRACES="otlp").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "billing_stream.observability.tracing.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(SettingsError, match=r"BILLING_TRACES=otlp needs .*billing-stream\[otel\]"):
        build(Settings.from_env())
