"""`billing-stream deliver` on a real Kafka and a real PostgreSQL, to a receiver of the test."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer
from standardwebhooks import Webhook

from billing_stream.records.topics import event_type
from tests.support.delivery import MERCHANT, add_endpoint, deliver_environment, delivering
from tests.support.projection import committed_log, create_topics, fetch, until
from tests.support.receiver import Received, Receiver, in_order, receiving
from tests.support.worker import run

pytestmark = pytest.mark.timeout(180)
# Others may use the machine.
SECONDS_MAX = 90.0
SINCE = ("--since", "2020-01-01")


def by_merchant(receiver: Receiver) -> dict[str, list[int]]:
    """The numbers of the events that came, by merchant, in their order."""
    found: dict[str, list[int]] = defaultdict(list)
    for one in receiver.requests:
        found[one.merchant].append(one.sequence)
    return found


def complete(receiver: Receiver, merchants: list[str], events: int) -> bool:
    """Whether all events of all merchants came, at least once."""
    found = by_merchant(receiver)
    return all(len(set(found[one])) == events for one in merchants)


async def test_a_kill_repeats_at_most_and_skips_nothing(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 20)
    env = deliver_environment(
        kafka,
        prefix,
        postgres_url,
        BILLING_DELIVER_RETENTION="36500d",
        BILLING_DELIVER_CONCURRENCY="4",
    )
    async with receiving() as receiver:
        secret = await add_endpoint(env, "e", f"{receiver.url}/e", *SINCE)
        await log.write(400)
        for kill in range(3):
            async with delivering(env, folder) as process:
                wanted = len(receiver.requests) + 60
                await receiver.until(
                    lambda wanted=wanted: len(receiver.requests) >= wanted,  # type: ignore[misc]
                    SECONDS_MAX,
                    f"requests before kill {kill}",
                )
                await process.kill()
            came = sum(len(set(found)) for found in by_merchant(receiver).values())
            assert came < log.purchases, "it was killed when all was done"
            await log.write(200)
        async with delivering(env, folder):
            await receiver.until(
                lambda: complete(receiver, log.merchants, 50), SECONDS_MAX, "all of it"
            )

    for merchant, sequences in by_merchant(receiver).items():
        assert in_order(sequences, 50), merchant
    last = receiver.requests[-1]
    assert Webhook(secret).verify(last.body, last.headers)["event_id"] == last.headers["webhook-id"]


async def test_of_two_processes_one_delivers_and_the_other_takes_over(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 10)
    env = deliver_environment(kafka, prefix, postgres_url)
    async with receiving() as receiver:
        await add_endpoint(env, "e", f"{receiver.url}/e", *SINCE)
        await log.write(100)
        async with delivering(env, folder) as first:
            await receiver.until(
                lambda: complete(receiver, log.merchants, 10), SECONDS_MAX, "all by the first"
            )
            async with delivering(env, folder) as second:
                await second.ready(SECONDS_MAX)
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(f"{second.url}/ready") as response,
                ):
                    said = await response.json()
                assert said["warnings"] == ["another process delivers: this one is on standby"]
                assert (await second.metrics())["billing_deliver_active"] == 0
                assert await first.stop() == 0
                await log.write(100)
                await receiver.until(
                    lambda: complete(receiver, log.merchants, 20), SECONDS_MAX, "by the second"
                )
                # A stop that was asked for repeats nothing.
                assert len(receiver.requests) == 200
                assert (await second.metrics())["billing_deliver_active"] == 1


async def test_a_process_that_hangs_is_replaced_and_its_repeats_skip_nothing(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 10)
    env = deliver_environment(kafka, prefix, postgres_url, BILLING_DELIVER_CONCURRENCY="2")
    async with receiving() as receiver:
        await add_endpoint(env, "e", f"{receiver.url}/e", *SINCE)
        await log.write(100)
        async with delivering(env, folder) as first:
            await receiver.until(lambda: len(receiver.requests) == 100, SECONDS_MAX, "the first")
            async with delivering(env, folder) as second:
                await second.ready(SECONDS_MAX)
                released = asyncio.Event()

                async def held(received: Received) -> web.Response:
                    if received.sequence > 15:
                        await released.wait()
                    return web.Response(status=204)

                receiver.answers["/e"] = held
                await log.write(200)
                await receiver.until(
                    lambda: any(one.sequence == 16 for one in receiver.requests),
                    SECONDS_MAX,
                    "in the middle of it",
                )
                first.pause()
                released.set()
                await receiver.until(
                    lambda: complete(receiver, log.merchants, 30), SECONDS_MAX, "by the second"
                )
                first.resume()
                await log.write(100)
                await receiver.until(
                    lambda: complete(receiver, log.merchants, 40), SECONDS_MAX, "all"
                )
    for merchant, sequences in by_merchant(receiver).items():
        assert in_order(sequences, 40), merchant


async def test_events_of_several_topics_are_sent_in_their_order(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    topics = await create_topics(kafka, prefix)
    kinds = ["trial.started", "credits.purchased", "purchase.refunded", "trial.expired"]
    env = deliver_environment(kafka, prefix, postgres_url)
    async with receiving() as receiver:
        await add_endpoint(env, "e", f"{receiver.url}/e", *SINCE)
        async with delivering(env, folder) as process:
            await process.ready(SECONDS_MAX)
            await send(kafka, topics.prefix, [(kinds[n % 4], n + 1) for n in reversed(range(12))])
            await receiver.until(lambda: len(receiver.requests) == 12, SECONDS_MAX, "all")
            # One that is not committed is not sent.
            await send(kafka, topics.prefix, [(kinds[0], 13)], commit=False)
            await send(kafka, topics.prefix, [(kinds[1], 13)])
            await receiver.until(lambda: len(receiver.requests) == 13, SECONDS_MAX, "the next")
    assert receiver.sequences("/e") == list(range(1, 14))
    assert receiver.requests[-1].event["type"] == event_type(kinds[1])


async def send(
    kafka: str, prefix: str, events: list[tuple[str, int]], *, commit: bool = True
) -> None:
    """Write events of a merchant, each in a transaction, in the order that is given."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{prefix}events")
    await producer.start()
    try:
        for kind, sequence in events:
            name = event_type(kind)
            value = {
                "event_id": f"event-{sequence}",
                "event_type": name,
                "correlation_id": None,
                "source_service": "billing-service",
                "timestamp": datetime.now(UTC),
                "data": {"merchant_id": MERCHANT, "credits": 1},
            }
            await producer.begin_transaction()
            await producer.send_and_wait(
                prefix + name,
                msgspec.json.encode(value),
                key=MERCHANT.encode(),
                partition=0,
                headers=[("sequence", b"%d" % sequence)],
            )
            if commit:
                await producer.commit_transaction()
            else:
                await producer.abort_transaction()
    finally:
        await producer.stop()


async def test_a_missing_event_is_reported_and_can_be_skipped(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    topics = await create_topics(kafka, prefix)
    env = deliver_environment(kafka, prefix, postgres_url)
    async with receiving() as receiver:
        await add_endpoint(env, "e", f"{receiver.url}/e", *SINCE)
        async with delivering(env, folder) as process:
            await send(kafka, topics.prefix, [("trial.started", 1), ("trial.expired", 3)])
            await receiver.until(lambda: len(receiver.requests) == 1, SECONDS_MAX, "the first")
            await until(partial(waits, postgres_url), SECONDS_MAX, "the third one waits")
            code, output = await run(env, "deliver", "skip-missing", MERCHANT)
            assert code == 0, output
            assert f"events of merchant {MERCHANT} from number 3 on are queued" in output
            await receiver.until(lambda: len(receiver.requests) == 2, SECONDS_MAX, "the third")
            again = await run(env, "deliver", "skip-missing", MERCHANT)
            assert again[1].splitlines()[-1] == f"nothing is missing of merchant {MERCHANT}"
            assert await process.stop() == 0


async def test_private_addresses_are_refused_where_they_are_connected(
    kafka: str, prefix: str, folder: Path, postgres_url: str
) -> None:
    await create_topics(kafka, prefix)
    log = committed_log(kafka, prefix, 1)
    await log.write(1)
    env = deliver_environment(kafka, prefix, postgres_url)
    async with receiving() as receiver:
        port = receiver.url.rsplit(":", 1)[1]
        strict = {**env, "BILLING_WEBHOOKS_ALLOW_PRIVATE": "false"}
        # The name is of no private address, what it resolves to is.
        await add_endpoint(strict, "e", f"https://localhost:{port}/e", *SINCE)
        async with delivering(strict, folder):
            await until(partial(refused, postgres_url), SECONDS_MAX, "it is refused")
        assert receiver.requests == []


async def refused(database_url: str) -> bool:
    """Whether the endpoint failed for its address."""
    found = await fetch(database_url, "SELECT last_error FROM public_webhooks.webhook_endpoints")
    return "127.0.0.1 is not a public address" in str(found[0]["last_error"])


async def waits(database_url: str) -> bool:
    """Whether an event waits for an earlier one."""
    query = "SELECT 1 FROM public_webhooks.webhook_merchants WHERE waiting_since IS NOT NULL"
    return bool(await fetch(database_url, query))
