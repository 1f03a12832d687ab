"""Adjustments, the test clock and forgetting with a real worker: what stands in every topic."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.audit.verify.verifier import verify
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import read_committed
from tests.support.catalogue import CATALOGUE
from tests.support.nodes import get, without_ids
from tests.support.shop import shop
from tests.support.worker import Worker, create_topics, environment, run, worker

PARTITIONS = 4
ANNA, BERT = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
DOMAIN, OTHER = "anna.example", "bert.example"
NAME, EMAIL = "Sentinel Sample", "sentinel@mail.example"

pytestmark = pytest.mark.timeout(240)


async def tell(kafka: str, prefix: str, topic: str, merchant: str, value: Any) -> None:
    """Write an input record."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(
            prefix + topic,
            value if isinstance(value, bytes) else json.dumps(value).encode(),
            key=merchant.encode(),
            partition=partition_of(merchant, PARTITIONS),
        )
    finally:
        await producer.stop()


def created(merchant: str, domain: str) -> dict[str, str]:
    return {
        "merchant_id": merchant,
        "platform_name": "shopify",
        "platform_shop_id": "1",
        "domain": domain,
        "name": NAME,
        "email": EMAIL,
        "installed_at": "2026-01-01T00:00:00Z",
    }


async def every_byte(kafka: str, topics: Topics) -> dict[str, bytes]:
    """All that stands in each topic: keys, values and headers."""
    found = {topics.base(topic.name): b"" for topic in topics.all()}
    for record in await read_committed(kafka, [topic.name for topic in topics.all()]):
        headers = [part for name, value in record.headers for part in (name.encode(), value)]
        found[topics.base(record.topic)] += b"\n".join(
            [record.key or b"", record.value or b"", *headers, b""]
        )
    return found


async def life_of(anna: str, kafka: str, prefix: str, one: Worker) -> None:
    """A trial, a purchase that is paid, credits given, a second shop; and one that is bad."""
    async with shop(DOMAIN, one) as client:
        assert (await client.insist("POST", "/api/billing/trials")).status == 201
        pack = {
            "pack": "small",
            "platform": "shopify",
            "return_url": f"https://{DOMAIN}/thanks",
            "idempotency_key": "key-1",
        }
        bought = await client.insist("POST", "/api/billing/purchases", pack)
        purchase_id = bought.data["purchase_id"]
        purchase = (await client.insist("GET", f"/api/billing/purchases/{purchase_id}")).data
        paid = {
            "merchant_id": anna,
            "charge_id": purchase["platform_charge_id"],
            "status": "ACTIVE",
        }
        await tell(kafka, prefix, names.PURCHASE_UPDATED, anna, paid)
        await client.until_status(purchase_id, "completed")


async def adjust(one: Worker, credits: int, key: str, token: str) -> Any:
    body = {"merchant_id": ANNA, "credits": credits, "reason": "a gift", "idempotency_key": key}
    headers = {"Authorization": f"Bearer {token}"}
    return await get(one.url, "/internal/adjustments", headers, method="POST", json=body)


async def test_a_merchant_is_seen_through_adjusted_and_forgotten(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix)
    topics = Topics("billing-stream", prefix)
    await create_topics(env)
    for merchant, domain in ((ANNA, DOMAIN), (BERT, OTHER)):
        await tell(kafka, prefix, names.MERCHANT_CREATED, merchant, created(merchant, domain))
    async with worker(env, folder) as one:
        await life_of(ANNA, kafka, prefix, one)
        token = (await run(env, "dev", "operator-token", "olga"))[1].strip()
        given = await adjust(one, 25, "gift-1", token)
        moved = await run(env, "dev", "clock", ANNA, "+14d", "--url", one.url)
        async with shop(DOMAIN, one) as client:
            trial = (await client.insist("GET", "/api/billing/trials")).data
            billing = (await client.insist("GET", "/api/billing")).data

        forgotten = await run(env, "forget", ANNA, "--yes", "--remains")
        again = await run(env, "forget", ANNA.upper(), "--yes")
        unknown = await run(env, "forget", "99999999-9999-4999-8999-999999999999", "--yes")
        repeated = await adjust(one, 25, "gift-1", token)
        log = one.log.read_text()
    late = await run(env, "forget", BERT, "--yes", "--wait", "1s")
    async with worker(env, folder):
        done = await run(env, "forget", BERT, "--yes")

    assert (given.status, given.data["balance"]) == (201, 125)
    assert moved[0] == 0, moved
    assert re.match(r"20\d\d-", moved[1]), moved
    assert (trial["available"], trial["active"]) == (False, False)
    assert (billing["credits_purchased"], billing["credits_adjusted"]) == (100, 25)
    assert forgotten[0] == 0, forgotten
    assert f"merchant {ANNA} is forgotten" in forgotten[1]
    assert re.search(r"evt\.merchant\.created\.v1\[\d\]@\d+: domain, email, name", forgotten[1])
    assert re.search(
        r"billing\.journal\.v1\[\d\]@.*: checkout_url, idempotency_key, return_url", forgotten[1]
    )
    assert (again[0], "was forgotten before" in again[1]) == (0, True), again
    assert (unknown[0], "MERCHANT_NOT_FOUND" in unknown[1]) == (1, True), unknown
    assert without_ids(repeated.body) == without_ids(given.body)
    assert (late[0], "waits for a worker" in late[1]) == (1, True), late
    assert (done[0], "was forgotten before" in done[1]) == (0, True), done
    await nothing_personal_is_kept(kafka, topics, log)
    report = await verify(
        {"bootstrap_servers": kafka}, topics, PARTITIONS, CATALOGUE, test_clock=True
    )
    assert report.ok, "\n".join(report.lines())


async def nothing_personal_is_kept(kafka: str, topics: Topics, log: str) -> None:
    """Name and email stand in the input alone; of the domain, no table has anything."""
    found = await every_byte(kafka, topics)
    assert NAME.encode() in found[names.MERCHANT_CREATED], "the test sees what there is"
    for sentinel in (NAME, EMAIL):
        where = {topic for topic, raw in found.items() if sentinel.encode() in raw}
        assert where == {names.MERCHANT_CREATED}
        assert sentinel not in log
    for kind in names.EVENT_TYPES:
        assert DOMAIN.encode() not in found[names.event_type(kind)]
    last: dict[tuple[str, bytes], bytes] = {}
    for table in names.TABLES:
        for record in await read_committed(kafka, [topics.changelog(table)]):
            last[table, record.key or b""] = record.value or b""
    kept = [place for place, value in last.items() if DOMAIN.encode() in place[1] and value]
    kept += [place for place, value in last.items() if DOMAIN.encode() in value]
    assert kept == []


async def test_a_dead_letter_is_the_whole_record_and_can_be_found(
    kafka: str, prefix: str, folder: Path
) -> None:
    """By contract it has all bytes of the record, and so what is personal in it."""
    env = environment(kafka, prefix)
    await create_topics(env)
    await tell(kafka, prefix, names.MERCHANT_CREATED, ANNA, created(ANNA, DOMAIN))
    bad = {**created(ANNA, DOMAIN), "domain": 7}
    await tell(kafka, prefix, names.MERCHANT_CREATED, ANNA, bad)
    async with worker(env, folder) as one:
        async with shop(DOMAIN, one):
            await asyncio.sleep(0)
        forgotten = await run(env, "forget", ANNA, "--yes", "--remains")
        log = one.log.read_text()

    assert forgotten[0] == 0, forgotten
    assert re.search(r"dlq\.billing\.v1\[\d\]@\d+: a whole record", forgotten[1])
    assert EMAIL not in log
    assert NAME not in log


async def test_what_is_no_merchant_id_is_wrong_usage(kafka: str, prefix: str) -> None:
    env = environment(kafka, prefix)

    code, output = await run(env, "forget", "anna", "--yes")

    assert (code, "not a merchant id" in output) == (2, True), output
    code, output = await run(env, "forget", ANNA)
    assert (code, "--yes" in output) == (2, True), output
