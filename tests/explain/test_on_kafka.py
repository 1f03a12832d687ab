"""Each credit names the exact record that caused it, whatever happened on the way."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.domain.ids import derived_id
from billing_stream.engine.partitioner import partition_of
from billing_stream.records import topics as names
from billing_stream.records.topics import Topics
from tests.support.audit import read_committed
from tests.support.shop import Shop, create_merchants, shop
from tests.support.worker import Worker, create_topics, environment, run, worker

pytestmark = pytest.mark.timeout(240)

M1 = "11111111-1111-4111-8111-111111111111"
DOMAIN = "one.example"
PARTITIONS = 4
OWN = partition_of(M1, PARTITIONS)
PACK = {"pack": "medium", "platform": "shopify", "return_url": "https://one.example/thanks"}


class Platform:
    """Sends webhooks, and knows where they came to stand."""

    def __init__(self, producer: AIOKafkaProducer, prefix: str) -> None:
        self._producer = producer
        self._prefix = prefix

    async def send(self, topic: str, partition: int = OWN, **payload: Any) -> str:
        """The reference of the record."""
        value = json.dumps({"merchant_id": M1, **payload}).encode()
        name = self._prefix + topic
        sent = await self._producer.send_and_wait(name, value, M1.encode(), partition=partition)
        return f"{sent.topic}[{sent.partition}]@{sent.offset}"


async def opened(client: Shop) -> tuple[str, str]:
    """A purchase opened over HTTP: its id and its charge."""
    reply = await client.insist("POST", "/api/billing/purchases", PACK)
    purchase = reply.data["purchase_id"]
    found = await client.insist("GET", f"/api/billing/purchases/{purchase}")
    return purchase, found.data["platform_charge_id"]


async def until_billing(client: Shop, **wanted: int) -> None:
    """Wait until the merchant's billing says so."""
    for _ in range(300):
        found = (await client.insist("GET", "/api/billing")).data
        if all(found.get(name) == value for name, value in wanted.items()):
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"it does not come to {wanted}: {found}")


async def explained(env: dict[str, str], folder: Path, *arguments: str) -> tuple[int, Any, str]:
    """Exit code, the explanation as JSON, and as text."""
    file = folder / "explained.json"
    file.unlink(missing_ok=True)
    code, text = await run(env, "explain", *arguments, "--json", str(file))
    return code, json.loads(file.read_bytes()) if file.exists() else None, text


def source(credit: Any) -> str:
    found = credit["source"]
    return f"{found['topic']}[{found['partition']}]@{found['offset']}"


async def test_every_credit_names_its_record_after_a_kill_a_detour_and_refunds(
    kafka: str, prefix: str, folder: Path
) -> None:
    env, topics = environment(kafka, prefix), Topics("billing-stream", prefix)
    await create_topics(env)
    await create_merchants(kafka, prefix, {M1: DOMAIN})
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    platform = Platform(producer, prefix)
    updated, refunded = names.PURCHASE_UPDATED, names.PURCHASE_REFUNDED
    first = Worker(env, folder)
    await first.start()
    await first.ready()
    async with shop(DOMAIN, first) as client:
        await client.insist("POST", "/api/billing/trials")
        one, charge_one = await opened(client)
        two, charge_two = await opened(client)
        usual = await platform.send(updated, charge_id=charge_one, status="ACTIVE")
        await client.until_status(one, "completed")
        between = datetime.now(UTC)
        await first.kill()
    # Meanwhile: on a wrong partition; before anyone knows its charge; twice the same.
    detour = await platform.send(
        updated, (OWN + 1) % PARTITIONS, charge_id=charge_two, status="accepted"
    )
    early = await platform.send(updated, charge_id="early", status="ACTIVE")
    await platform.send(updated, charge_id=charge_one, status="ACTIVE")
    async with worker(env, folder) as second, shop(DOMAIN, second) as client:
        await client.until_status(two, "completed")
        three = (await client.insist("POST", "/api/billing/purchases", PACK)).data["purchase_id"]
        part = await platform.send(refunded, charge_id=charge_one, amount=10)
        whole = await platform.send(refunded, charge_id=charge_two)
        await client.until_status(two, "refunded")
        reserve = await platform.send(
            names.COMMANDS, command="reserve_purchase", pack="small", platform="shopify"
        )
        four = id_of_purchase(reserve)
        attach = await platform.send(
            names.COMMANDS,
            command="attach_charge",
            purchase_id=four,
            charge_id="early",
            checkout_url="https://pay.example/1",
        )
        adjust = await platform.send(
            names.COMMANDS,
            command="adjust_credits",
            credits=-5,
            reason="a mistake",
            idempotency_key="k",
        )
        # The last of all, and on the same topic as what came before it.
        await until_billing(client, credits_adjusted=-5)
        await client.until_status(four, "completed")
        # Read while the worker runs and nothing else happens.
        code, now, text = await explained(env, folder, M1)
    await producer.stop()

    assert code == 0, text
    forwarded = await read_committed(kafka, [topics.name(names.COMMANDS)])
    copy = next(r for r in forwarded if dict(r.headers).get("billing-forwarded-from"))
    kinds = ("credits.purchased", "purchase.refunded", "credits.adjusted")
    events = await read_committed(kafka, [topics.name(names.event_type(kind)) for kind in kinds])
    credits = {credit["event_id"]: credit for credit in now["credits"]}
    assert set(credits) == {json.loads(event.value)["event_id"] for event in events}
    by_amount = [(c["purchase_id"], c["credits"], source(c)) for c in now["credits"]]
    assert by_amount == [
        (one, 500, usual),
        (two, 500, f"{copy.topic}[{copy.partition}]@{copy.offset}"),
        (one, -125, part),
        (two, -500, whole),
        (four, 100, attach),
        (None, -5, adjust),
    ]
    assert now["credits"][1]["source"]["sent_as"] == detour
    assert now["credits"][4]["source"]["waited"] == [early]
    assert [c["balance_after"] for c in now["credits"]] == [500, 1000, 875, 375, 475, 470]
    assert now["state"]["balance"] == now["balance_now"] == 470
    statuses = {p["id"]: p["status"] for p in now["state"]["purchases"]}
    expected = {one: "completed", two: "refunded", three: "pending", four: "completed"}
    assert statuses == expected
    assert "They add up to 470; the balance then is 470." in text

    code, then, text = await explained(env, folder, f"shopify:{DOMAIN}", "--at", str(between))
    assert code == 0, text
    assert [source(credit) for credit in then["credits"]] == [usual]
    assert then["state"]["balance"] == 500
    assert {p["id"]: p["status"] for p in then["state"]["purchases"]} == {
        one: "completed",
        two: "pending",
    }
    assert then["state"]["trial_active"]
    trial = next(m for m in then["timeline"] if m["command"]["command"] == "start_trial")
    assert trial["origin"] == "http"
    assert trial["record"].startswith(f"{prefix}billing.journal.v1[{OWN}]@")


def id_of_purchase(ref: str) -> str:
    """The id that the purchase of a command from a topic has."""
    return derived_id("purchase", M1, ref)


async def test_before_it_was_created_nothing_was_and_nobody_is_said_to_be_nobody(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    await create_merchants(kafka, prefix, {M1: DOMAIN})
    async with worker(env, folder) as running, shop(DOMAIN, running):
        before = await explained(env, folder, M1, "--at", "2020-01-01T00:00:00Z")
        nobody = await explained(env, folder, M1.replace("1", "2"))
        no_shop = await explained(env, folder, "shopify:nobody.example")
        nonsense = await explained(env, folder, "nonsense")

    assert before[0] == 0, before[2]
    assert before[1]["state"]["merchant"] is None
    assert before[1]["timeline"] == []
    assert [code for code, *_ in (nobody, no_shop, nonsense)] == [2, 2, 2]
    assert "nothing is recorded" in nobody[2]
    assert "has no merchant" in no_shop[2]
    assert "platform:domain" in nonsense[2]


async def test_credits_that_do_not_add_up_are_said_so(
    kafka: str, prefix: str, folder: Path
) -> None:
    env, topics = environment(kafka, prefix), Topics("billing-stream", prefix)
    await create_topics(env)
    await create_merchants(kafka, prefix, {M1: DOMAIN})
    async with worker(env, folder) as running, shop(DOMAIN, running) as client:
        purchase, _ = await opened(client)
        page = (await client.insist("POST", "/api/billing/purchases", PACK)).data["checkout_url"]
        async with httpx.AsyncClient() as browser:
            await browser.post(page, data={"action": "pay"})
        await until_billing(client, credits_purchased=500)
        good = await explained(env, folder, M1)
    topic = topics.name(names.event_type("credits.purchased"))
    (record,) = await read_committed(kafka, [topic])
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    await producer.send_and_wait(
        topic, record.value, record.key, partition=OWN, headers=list(record.headers)
    )
    await producer.stop()

    wrong = await explained(env, folder, M1)

    assert good[0] == 0, good[2]
    assert purchase in good[2]
    assert wrong[0] == 1, wrong[2]
    assert "all credits add up to 1000, and the balance is 500" in wrong[2]
