"""Commands over HTTP through what can happen to real workers on a real Kafka."""

import asyncio
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from billing_stream.dev.cluster import Cluster
from billing_stream.records.topics import Topics
from tests.support.audit import Audit
from tests.support.shop import create_merchants, shop
from tests.support.worker import Worker, create_topics, environment, worker

M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"
DOMAIN = "one.example"
TRIALS = "/api/billing/trials"
PURCHASES = "/api/billing/purchases"
BUY = {"pack": "small", "platform": "shopify", "return_url": "https://app.example/back"}

pytestmark = pytest.mark.timeout(180)


async def test_one_answer_across_workers_copies_crashes_and_restarts(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    await create_merchants(kafka, prefix, {M1: DOMAIN})
    async with (
        worker(env, folder) as first,
        worker(env, folder) as second,
        shop(DOMAIN, first, second) as client,
    ):
        copies = await asyncio.gather(
            *(client.insist("POST", PURCHASES, BUY, Idempotency_Key="k") for _ in range(50))
        )
        trials = await asyncio.gather(
            *(client.insist("POST", TRIALS, Idempotency_Key="t") for _ in range(50))
        )
        await first.kill()
        client.workers = [second]
        survived = await client.insist("POST", PURCHASES, BUY, Idempotency_Key="k")
        await second.kill()
        await second.start()
        restarted = await client.insist("POST", PURCHASES, BUY, Idempotency_Key="k")
        other = await client.insist(
            "POST", PURCHASES, {**BUY, "pack": "large"}, Idempotency_Key="k"
        )

        assert {reply.status for reply in copies} == {201}
        assert len({reply.without_ids for reply in [*copies, survived, restarted]}) == 1
        assert {reply.status for reply in trials} == {201}
        assert len({reply.without_ids for reply in trials}) == 1
        assert (other.status, other.code) == (409, "IDEMPOTENCY_KEY_REUSED")
        assert len((await client.insist("GET", PURCHASES)).data) == 1
    events = await Audit(kafka, Topics("billing-stream", prefix)).events()
    assert len(events["trial.started"]) == 1


@pytest.mark.full
async def test_what_was_asked_while_the_owner_died_has_one_true_answer(
    kafka: str, prefix: str, folder: Path
) -> None:
    """Clients repeat with their keys while workers are killed again and again."""
    env = environment(kafka, prefix)
    shops = {f"{n:08x}-0000-4000-8000-000000000000": f"s{n}.example" for n in range(24)}
    await create_topics(env)
    await create_merchants(kafka, prefix, shops)
    async with (
        worker(env, folder) as first,
        worker(env, folder) as second,
        shop("s0.example", first, second),
    ):
        over = asyncio.Event()

        async def buy(domain: str) -> tuple[int, int]:
            """Purchases opened and answers got; each with a key of its own."""
            count = 0
            async with shop(domain, first, second) as client:
                while not over.is_set() or count < 3:
                    key = f"k{count}"
                    replies = [
                        await client.insist("POST", PURCHASES, BUY, Idempotency_Key=key)
                        for _ in range(2)
                    ]
                    assert {reply.status for reply in replies} == {201}, replies
                    assert len({reply.without_ids for reply in replies}) == 1
                    count += 1
                await client.insist("POST", TRIALS, Idempotency_Key="t")
                total = await client.insist("GET", PURCHASES + "?limit=1")
                return count, int(total.body["pagination"]["total"])

        async def kill() -> None:
            for victim in (first, second, first):
                await asyncio.sleep(1.0)
                await victim.kill()
                await victim.start()
                await victim.ready()
            over.set()

        killing = asyncio.create_task(kill())
        counts = await asyncio.gather(*(buy(domain) for domain in shops.values()))
        await killing

    assert [opened for _, opened in counts] == [count for count, _ in counts]
    events = await Audit(kafka, Topics("billing-stream", prefix)).events()
    assert len(events["trial.started"]) == len(shops)


async def ready_status(asked: Worker) -> int:
    async with aiohttp.ClientSession() as session, session.get(asked.url + "/ready") as response:
        return response.status


async def test_a_worker_told_to_stop_says_so_first_and_answers_what_it_took(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix, BILLING_DRAIN_DELAY="1s")
    await create_topics(env)
    await create_merchants(kafka, prefix, {M1: DOMAIN})
    async with worker(env, folder) as one, shop(DOMAIN, one) as client:
        assert await ready_status(one) == 200
        one.signal(signal.SIGTERM)
        await asyncio.sleep(0.2)

        not_ready = await ready_status(one)
        served = await client.ask("GET", "/api/billing")
        statuses: list[int] = []
        begun = time.monotonic()
        while one.running:
            try:
                statuses.append((await client.ask("POST", PURCHASES, BUY)).status)
            except aiohttp.ClientError:
                statuses.append(0)
            await asyncio.sleep(0.02)

        assert not_ready == 503
        assert served.status == 200
        assert await one.stop() == 0
        assert time.monotonic() - begun < 15
        # Good answers, then "come again", then no connection: and never a lost one between.
        rank = {201: 0, 503: 1, 0: 2}
        assert [rank[s] for s in statuses] == sorted(rank[s] for s in statuses)
        opened = statuses.count(201)
        assert opened > 0
        await one.start()
        await one.ready()
        listed = await client.insist("GET", PURCHASES + "?limit=1")
        assert listed.body["pagination"]["total"] == opened


async def test_a_second_signal_ends_a_worker_at_once(kafka: str, prefix: str, folder: Path) -> None:
    env = environment(kafka, prefix, BILLING_DRAIN_DELAY="60s")
    await create_topics(env)
    async with worker(env, folder) as one:
        one.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)

        assert await one.stop(20) == 0


async def test_the_checkout_page_of_development_pays_and_declines(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    await create_merchants(kafka, prefix, {M1: DOMAIN, M2: "two.example"})
    async with worker(env, folder) as one, shop(DOMAIN, one) as client:
        paid = (await client.insist("POST", PURCHASES, BUY)).data
        declined = (await client.insist("POST", PURCHASES, BUY)).data
        async with aiohttp.ClientSession() as browser:
            page = await browser.get(paid["checkout_url"])
            text = await page.text()
            done = await browser.post(paid["checkout_url"], data={"action": "pay"})
            await browser.post(paid["checkout_url"], data={"action": "pay"})
            await browser.post(declined["checkout_url"], data={"action": "decline"})
            odd = await browser.post(paid["checkout_url"], data={"action": "steal"})
            forged = await browser.get(paid["checkout_url"][:-3] + "abc")

        assert "9.99" in text
        assert "no-store" in page.headers["Cache-Control"]
        assert BUY["return_url"] in await done.text()
        assert (odd.status, forged.status) == (422, 404)
        await client.until_status(paid["purchase_id"], "completed")
        await client.until_status(declined["purchase_id"], "failed")
        billing = (await client.insist("GET", "/api/billing")).data
        assert billing["credits_purchased"] == 100


@pytest.mark.full
async def test_webhook_is_refused_in_time_without_kafka_and_accepted_after(
    prefix: str, folder: Path
) -> None:
    with Cluster(folder / "kafka", kafka=True) as cluster:
        env = environment(cluster.bootstrap_servers, prefix)
        await create_topics(env)
        await create_merchants(cluster.bootstrap_servers, prefix, {M1: DOMAIN})
        async with worker(env, folder) as one, shop(DOMAIN, one) as client:
            opened = (await client.insist("POST", PURCHASES, BUY)).data
            # A commit marker that is not on disk yet may be lost with the broker.
            await asyncio.sleep(2)
            async with aiohttp.ClientSession() as browser:
                assert cluster.kafka is not None
                cluster.kafka.kill()
                began = time.monotonic()
                away = await browser.post(opened["checkout_url"], data={"action": "pay"})
                took = time.monotonic() - began
                cluster.kafka.start()
                end = time.monotonic() + 40
                while True:
                    if not one.running:
                        await one.start()
                        await one.ready()
                    try:
                        back = await browser.post(opened["checkout_url"], data={"action": "pay"})
                        if back.status == 200:
                            break
                    except aiohttp.ClientError:
                        pass
                    assert time.monotonic() < end
                    await asyncio.sleep(0.2)

            assert away.status == 503
            assert took < 5
            paid = await client.until_status(opened["purchase_id"], "completed")
            assert paid["credits"] == 100
