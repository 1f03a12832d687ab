"""What a real worker tells Prometheus adds up to what it was sent."""

import asyncio
import re
from collections import defaultdict
from pathlib import Path

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from billing_stream.records import topics as names
from tests.support.shop import create_merchants, shop
from tests.support.worker import Worker, create_topics, environment, worker

M1 = "11111111-1111-4111-8111-111111111111"
ROOT = Path(__file__).parents[2]
DOMAIN = "one.myshopify.com"
MERCHANTS = {M1: DOMAIN} | {
    f"{number:08d}-1111-4111-8111-111111111111": f"shop-{number}.myshopify.com"
    for number in range(20)
}
Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]

pytestmark = pytest.mark.timeout(120)


async def scrape(running: Worker) -> tuple[str, Figures]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(running.url + "/metrics") as answer,
    ):
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        text = await answer.text()
    figures = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return text, figures


def total(figures: Figures, name: str, **labels: str) -> float:
    return sum(
        value
        for (found, given), value in figures.items()
        if found == name and labels.items() <= dict(given).items()
    )


async def test_the_metrics_add_up_to_what_was_sent_and_name_nobody(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    await create_merchants(kafka, prefix, MERCHANTS)
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    for _ in range(3):
        await producer.send_and_wait(prefix + names.MERCHANT_CREATED, b"{", b"key")
    await producer.stop()
    async with worker(env, folder) as running, shop(DOMAIN, running) as client:
        first = await client.insist("POST", "/api/billing/trials")
        again = await client.ask("POST", "/api/billing/trials")
        assert (first.status, again.status) == (201, 409)
        async with aiohttp.ClientSession() as session:
            await session.get(running.url + "/api/not/there")
        text, found = await scrape(running)
        # Lanes that have not read yet are not waited for by others.
        done = {"kind": "create_merchant", "outcome": "DONE"}
        while total(found, "billing_dead_letters_total") < 3 or (
            total(found, "billing_decisions_total", **done) < len(MERCHANTS)
        ):
            await asyncio.sleep(0.1)
            text, found = await scrape(running)

    records = total(found, "billing_records_total", topic=names.MERCHANT_CREATED)
    # A record on a partition of another merchant is taken twice: there, and where it belongs.
    forwarded = total(found, "billing_decisions_total", kind="create_merchant", outcome="FORWARDED")
    assert records - forwarded == len(MERCHANTS) + 3
    assert total(found, "billing_decisions_total", kind="create_merchant", outcome="DONE") == len(
        MERCHANTS
    )
    assert total(found, "billing_dead_letters_total", topic=names.MERCHANT_CREATED) == 3
    assert total(found, "billing_events_total", event="trial.started") == 1
    assert total(found, "billing_decisions_total", kind="start_trial", outcome="DONE") == 1
    assert total(found, "billing_decisions_total", kind="start_trial") == 2
    posts = {"method": "POST", "route": "/api/billing/trials"}
    assert total(found, "billing_http_requests_total", code="201", **posts) == 1
    assert total(found, "billing_http_requests_total", code="409", **posts) == 1
    unknown = total(found, "billing_http_requests_total", route="an unknown path", code="404")
    assert unknown == 1
    owned = total(found, "billing_partition_owned")
    assert owned == total(found, "billing_lanes_owned") == total(found, "billing_partitions")
    transactions = total(found, "billing_transaction_duration_seconds_count")
    assert 0 < transactions <= len(MERCHANTS) + 3 + forwarded + 3
    assert total(found, "billing_transaction_input_records_sum") == total(
        found, "billing_records_total"
    )
    assert total(found, "billing_worker_ready") == total(found, "billing_lease_held") == 1
    values = defaultdict(set)
    for _, labels in found:
        for name, value in labels:
            values[name].add(value)
    said = {value for several in values.values() for value in several}
    assert not [value for value in said if "myshopify" in value or "-1111-4111-" in value]
    assert "eyJ" not in text
    reference = (ROOT / "docs/metrics.md").read_text()
    for family in text_string_to_metric_families(text):
        labelled = {name for sample in family.samples for name in sample.labels} - {"le"}
        ours = family.name.startswith("billing_") and not family.name.endswith(
            ("_info", "_created")
        )
        if labelled and ours:
            (named,) = re.findall(rf"`{family.name}(?:_total)?` \| \w+ \| ([^|]*) \|", reference)
            assert set(named.split(", ")) == labelled
