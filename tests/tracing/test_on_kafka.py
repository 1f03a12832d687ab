"""One trace from the request over the command and its transaction to the event."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import read_committed
from tests.support.shop import create_merchants, shop
from tests.support.worker import create_topics, environment, run, worker
from tests.tracing.collector import Collector, Got, collecting

pytestmark = pytest.mark.timeout(180)

ANNA = "11111111-1111-4111-8111-111111111111"
CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{CALLER}-00f067aa0ba902b7-01"
PACK = {"pack": "small", "platform": "custom", "return_url": "https://anna.example/thanks"}
PERSONAL = (ANNA, "anna.example", "Bearer")


def traced(env: dict[str, str], collector: Collector) -> dict[str, str]:
    """The environment of a worker that traces, and sends soon."""
    return {
        **env,
        "BILLING_TRACES": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }


async def events(kafka: str, topics: Topics, kind: str) -> list[Any]:
    """All committed events of a kind."""
    return await read_committed(kafka, [topics.name(names.event_type(kind))])


def header(record: Any) -> str:
    """The traceparent of a record, or nothing."""
    found = [value.decode() for name, value in record.headers if name == "traceparent"]
    return found[0] if len(found) == 1 else ""


async def chain(collector: Collector, event: Any) -> tuple[Got, Got, Got, Got]:
    """The spans that led to an event: request, command, decision, transaction."""
    _, trace, span, flags = header(event).split("-")
    assert int(flags, 16) & 1, "sampled"
    decision = await collector.until(lambda s: (s.trace, s.id) == (trace, span))
    command = await collector.until(lambda s: s.id == decision.parent)
    request = await collector.until(lambda s: s.id == command.parent)
    transaction = await collector.until(
        lambda s: s.name == "transaction" and f"{trace}-{span}" in s.links
    )
    assert decision.links == [f"{transaction.trace}-{transaction.id}"]
    return request, command, decision, transaction


async def pay(page: str) -> None:
    """Pay on the checkout page of development, which sends the webhook."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(page, data={"action": "pay"}) as response,
    ):
        assert response.status == 200, await response.text()


async def test_one_trace_joins_request_command_transaction_and_event(
    kafka: str, prefix: str, folder: Path
) -> None:
    env, topics = environment(kafka, prefix), Topics("billing-stream", prefix)
    await create_topics(env)
    async with (
        collecting() as collector,
        worker(traced(env, collector), folder) as one,
        worker(traced(env, collector), folder) as two,
    ):
        await create_merchants(kafka, prefix, {ANNA: "anna.example"})
        async with shop("anna.example", one, two) as client:
            # Of two workers one owns the merchant: asked both ways.
            reply = await client.insist("POST", "/api/billing/trials", traceparent=TRACEPARENT)
            assert reply.status == 201
            again = await client.insist("POST", "/api/billing/trials", traceparent=TRACEPARENT)
            assert again.status == 409
            purchase = (await client.insist("POST", "/api/billing/purchases", PACK)).data
            await pay(purchase["checkout_url"])
            await client.until_status(purchase["purchase_id"], "completed")
        (trial,) = await events(kafka, topics, "trial.started")
        (paid,) = await events(kafka, topics, "credits.purchased")

        request, command, decision, transaction = await chain(collector, trial)
        assert request.trace == command.trace == decision.trace == transaction.trace == CALLER
        assert request.name.startswith("POST /")
        assert command.name == "append start_trial"
        assert decision.name == "decide start_trial"
        assert [request.kind, command.kind, decision.kind, transaction.kind] == [
            *(Span.SPAN_KIND_SERVER, Span.SPAN_KIND_PRODUCER),
            *(Span.SPAN_KIND_CONSUMER, Span.SPAN_KIND_INTERNAL),
        ]

        request, command, decision, transaction = await chain(collector, paid)
        assert request.trace == transaction.trace
        assert request.trace != CALLER
        assert "checkout" in request.attributes["http.route"]
        assert command.name == f"send {names.PURCHASE_UPDATED}"
        assert decision.attributes["messaging.destination.name"] == topics.name(
            names.PURCHASE_UPDATED
        )
        (webhook,) = await read_committed(kafka, [topics.name(names.PURCHASE_UPDATED)])
        assert header(webhook).split("-")[1:3] == [command.trace, command.id]
        assert decision.attributes["messaging.kafka.offset"] == str(webhook.offset)
        journal = await read_committed(kafka, [topics.name(names.JOURNAL)])
        assert all(header(record) for record in journal if record.key)

    assert {span.service for span in collector.spans} == {"billing-stream"}
    told = json.dumps([[*span.attributes.values(), span.name] for span in collector.spans])
    assert [word for word in PERSONAL if word in told] == []
    assert not [span for span in collector.spans if "/ready" in span.name]
    code, report = await run(env, "verify")
    assert (code, "no fault" in report) == (0, True), report


async def test_without_traces_no_record_has_a_header_of_them(
    kafka: str, prefix: str, folder: Path
) -> None:
    env, topics = environment(kafka, prefix), Topics("billing-stream", prefix)
    await create_topics(env)
    async with worker(env, folder) as one:
        await create_merchants(kafka, prefix, {ANNA: "anna.example"})
        async with shop("anna.example", one) as client:
            reply = await client.insist("POST", "/api/billing/trials", traceparent=TRACEPARENT)
            assert reply.status == 201
    (trial,) = await events(kafka, topics, "trial.started")
    assert [name for name, _ in trial.headers] == ["sequence", "cause"]


async def test_a_collector_that_is_away_keeps_nobody_waiting(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix, BILLING_TRACES="otlp")
    await create_topics(env)
    away = {**env, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    async with worker(away, folder) as one:
        await create_merchants(kafka, prefix, {ANNA: "anna.example"})
        async with shop("anna.example", one) as client:
            reply = await client.insist("POST", "/api/billing/trials")
            assert reply.status == 201
        assert await one.stop() == 0
