"""An upgrade on a real broker: the log of a release is taken over by the worker of now."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.topics import Role, Topics
from billing_stream.records.upcasting.versions import VERSION, version_of
from tests.support.audit import Audit, read_committed
from tests.support.projection import until
from tests.support.shop import Shop, shop
from tests.support.worker import Worker, environment, run, worker
from tests.upgrades.samples import present_name, stored
from tests.upgrades.scenario import ANNA, FAYE, PARTITIONS
from tests.upgrades.seeding import seed

pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]


async def send(kafka: str, topic: str, **data: Any) -> None:
    """A webhook, as the ingress writes it."""
    merchant = data["merchant_id"]
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    try:
        partition = partition_of(merchant, PARTITIONS)
        value = json.dumps(data).encode()
        await producer.send_and_wait(topic, value, merchant.encode(), partition=partition)
    finally:
        await producer.stop()


async def state_of(env: dict[str, str]) -> dict[str, str]:
    """What the doctor says of the state."""
    _, output = await run(env, "doctor", "--json")
    found: dict[str, str]
    (found,) = [one for one in json.loads(output) if one["check"] == "state"]
    return found


async def everything(kafka: str, topics: Topics) -> set[tuple[Any, ...]]:
    """All that is committed."""
    records = await read_committed(kafka, [topic.name for topic in topics.all()])
    return {(r.topic, r.partition, r.offset, r.value) for r in records}


async def credits(client: Shop) -> int:
    """The credits that the API tells."""
    reply = await client.insist("GET", "/api/billing")
    return int(reply.data["credits_purchased"])


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.4.0"])
async def test_a_worker_goes_on_where_a_release_stopped(
    kafka: str, prefix: str, folder: Path, version: str
) -> None:
    unset = environment(kafka, prefix)
    env = {**unset, "BILLING_CURRENCY_OF_OLD_ROWS": "EUR"}
    topics = await seed(kafka, prefix, stored(version))
    before = await state_of(env)
    refused = Worker(unset, folder)
    await refused.start()
    assert await refused.process.wait() == 2, refused.tail()
    assert "BILLING_CURRENCY_OF_OLD_ROWS is not set" in refused.tail()

    async with worker(env, folder) as running:
        # Paid after it expired, and the whole refund of back then told once more.
        paid, back = names.PURCHASE_UPDATED, names.PURCHASE_REFUNDED
        charge = {"merchant_id": FAYE, "charge_id": "charge-faye", "status": "accepted"}
        await send(kafka, topics.name(paid), **charge)
        again = {"merchant_id": ANNA, "charge_id": "charge-back", "amount": "39.99"}
        await send(kafka, topics.name(back), **again)
        async with shop("faye.example", running) as faye:
            (purchase,) = (await faye.insist("GET", "/api/billing/purchases")).data
            paid_now = await faye.until_status(purchase["id"], "completed")
            assert (paid_now["currency"], paid_now["pack"]) == ("EUR", None)
            assert await credits(faye) == 100
            reply = await faye.insist("POST", "/api/billing/trials")
            assert reply.status == 409, "the trial of back then was used"
        domain = "anna.example" if version < "0.3" else "anna-moved.example"
        async with shop(domain, running) as anna:
            assert await credits(anna) == 100

        async def taken() -> bool:
            told_again = (topics.name(back), partition_of(ANNA, PARTITIONS))
            return (await Audit(kafka, topics).lag()).get(told_again) == 0

        await until(taken, 60, "the refund that was told again")

    # The log has stored it by now, and another one that is set does not count.
    async with worker({**unset, "BILLING_CURRENCY_OF_OLD_ROWS": "USD"}, folder) as later:
        async with shop("faye.example", later) as faye:
            (purchase,) = (await faye.insist("GET", "/api/billing/purchases")).data
            assert purchase["currency"] == "EUR"
        assert "the log has stored EUR, which counts" in later.tail()
    code, report = await run(unset, "verify")
    assert (code, "no fault" in report) == (0, True), report
    rows = await read_committed(kafka, [topics.changelog(names.CREDIT_PURCHASES)])
    refunded = topics.name(names.event_type("purchase.refunded"))
    told = [
        record for record in await read_committed(kafka, [refunded]) if b"39.99" in record.value
    ]
    after = await state_of(unset)
    assert {version_of(row) for row in rows} == {1, VERSION}
    assert len(told) == 1
    assert "of version 1: this program reads them" in before["said"]
    assert f"of version 1 and {VERSION}: this program reads them" in after["said"]
    assert (before["verdict"], after["verdict"]) == ("OK", "OK")


async def test_no_process_goes_on_with_rows_of_a_newer_release(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    env = environment(kafka, prefix, DATABASE_URL=postgres_url)
    log = stored(present_name())
    last = max(n for n, r in enumerate(log) if "credit_purchases-changelog" in r.topic)
    log[last] = replace(log[last], headers=[("state", b"%d" % (VERSION + 1))])
    topics = await seed(kafka, prefix, log)
    before = await everything(kafka, topics)
    said = f"is of state version {VERSION + 1}"

    beside = Worker(env, folder)
    await beside.start()
    code = await beside.process.wait()
    projected = await run(env, "projector")
    verified = await run(env, "verify")
    explained = await run(env, "explain", FAYE)
    doctor = await state_of(env)

    assert (code, said in beside.tail()) == (65, True), beside.tail()
    assert "Traceback" not in beside.tail()
    for ended, output in (projected, verified, explained):
        assert (ended, said in output) == (65, True), output
    assert doctor["verdict"] == "FAIL"
    assert "a later one here" in doctor["todo"]
    # Of rows so old the broker may take away what was replaced.
    assert await everything(kafka, topics) <= before, "nothing was written"


async def test_the_newest_rows_are_found_whatever_topics_there_are(kafka: str, prefix: str) -> None:
    topics = await seed(kafka, prefix, [])
    found = await state_of(environment(kafka, prefix))
    assert found["said"] == f"no rows yet; this program writes version {VERSION}"
    assert [t.name for t in topics.all() if t.role is Role.CHANGELOG]
