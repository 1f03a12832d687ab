"""Real workers at a real secured broker: what they are allowed is what the table says."""

import asyncio
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from billing_stream.kafka.acls import Process
from billing_stream.records.endpoint_changes import decode_endpoint_event
from billing_stream.records.topics import ENDPOINT_CHANGED, Topics
from tests.support.audit import Audit, read_committed
from tests.support.delivery import add_endpoint, delivering
from tests.support.nodes import get
from tests.support.projection import fetch, projector, until
from tests.support.receiver import receiving
from tests.support.secured import PASSWORD, SecuredKafka
from tests.support.shop import create_merchants, shop
from tests.support.tokens import operator_headers
from tests.support.worker import create_topics, environment, run, worker

pytestmark = pytest.mark.full

COMMAND_SECONDS_MAX = 25
MERCHANT = "11111111-1111-4111-8111-111111111111"


async def carried_through(
    secured: SecuredKafka, prefix: str, env: dict[str, str], folder: Path
) -> None:
    """A merchant is created, starts a trial over HTTP, and the event is there."""
    await create_merchants(secured.plain, prefix, {MERCHANT: "anna.example"})
    async with worker(env, folder) as running, shop("anna.example", running) as anna:
        reply = await anna.insist("POST", "/api/billing/trials")
        assert reply.status == 201
        (event,) = (await Audit(secured.plain, Topics("billing-stream", prefix)).events())[
            "trial.started"
        ]
        assert event["data"]["merchant_id"] == MERCHANT
        assert await running.stop() == 0
        assert PASSWORD not in running.log.read_text()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_worker_with_a_password_and_just_its_rights_serves_a_merchant(
    secured: SecuredKafka, prefix: str, folder: Path, mechanism: str
) -> None:
    env = environment("", prefix, **secured.sasl_environment("worker", mechanism))
    await create_topics(environment(secured.plain, prefix))
    await secured.allow_process(Process.WORKER, prefix)

    await carried_through(secured, prefix, env, folder)


async def test_a_worker_with_a_certificate_and_just_its_rights_serves_one(
    secured: SecuredKafka, prefix: str, folder: Path
) -> None:
    env = environment("", prefix, **secured.mutual_environment("worker"))
    await create_topics(environment(secured.plain, prefix))
    await secured.allow_process(Process.WORKER, prefix)

    await carried_through(secured, prefix, env, folder)


async def test_projector_and_tools_run_with_just_their_rights(
    secured: SecuredKafka, prefix: str, folder: Path, postgres_url: str
) -> None:
    for process in Process:
        await secured.allow_process(process, prefix)

    def env_of(user: str) -> dict[str, str]:
        return environment("", prefix, DATABASE_URL=postgres_url, **secured.sasl_environment(user))

    code, output = await run(env_of("topics"), "topics", "create")
    assert code == 0, output
    await carried_through(secured, prefix, env_of("worker"), folder)
    async with projector(env_of("projector"), folder) as projecting:
        await projecting.ready()
        # What is not projected yet, `verify` would miss.
        await projecting.logged("up to date")
        assert await projecting.stop() == 0
    async with worker(env_of("worker"), folder):
        for command in (
            ["verify"],
            ["explain", MERCHANT],
            ["dlq", "list"],
            ["forget", MERCHANT, "--yes", "--remains"],
        ):
            async with asyncio.timeout(COMMAND_SECONDS_MAX):
                code, output = await run(env_of("operator"), *command)
            assert code == 0, (command, output)
    await delivered_to_a_receiver(env_of("deliver"), folder)
    (record,) = await read_committed(secured.plain, [f"{prefix}{ENDPOINT_CHANGED}"])
    assert decode_endpoint_event(record.value).data.endpoint_id == "e"


async def delivered_to_a_receiver(env: dict[str, str], folder: Path) -> None:
    """Its events come to an endpoint, signed and in order; its addition is published."""
    env = {**env, "BILLING_WEBHOOKS_ALLOW_PRIVATE": "true"}
    async with receiving() as receiver:
        secret = await add_endpoint(env, "e", f"{receiver.url}/e", "--since", "1h")
        async with delivering(env, folder) as delivery:
            await receiver.until(lambda: len(receiver.requests) >= 1, COMMAND_SECONDS_MAX, "events")

            async def published() -> bool:
                query = "SELECT 1 FROM public_webhooks.webhook_endpoint_changes"
                return await fetch(env["DATABASE_URL"], query) == []

            await until(published, COMMAND_SECONDS_MAX, "its event")
            assert await delivery.stop() == 0
    sequences = receiver.sequences("/e", MERCHANT)
    assert sequences == list(range(1, len(sequences) + 1))
    for one in receiver.requests:
        Webhook(secret).verify(one.body, one.headers)


async def test_dead_letters_are_on_the_dashboard_with_just_its_rights(
    secured: SecuredKafka, prefix: str, folder: Path
) -> None:
    env = environment("", prefix, **secured.sasl_environment("worker"))
    await create_topics(environment(secured.plain, prefix))
    await secured.allow_process(Process.WORKER, prefix)
    async with worker(env, folder) as running:
        page = await get(running.url, "/ops/dead-letters", operator_headers())
        # A page does not wait for long; who looks again is told.
        while b"Kafka has not answered yet" in page.raw:
            await asyncio.sleep(0.2)
            page = await get(running.url, "/ops/dead-letters", operator_headers())
        overview = await get(running.url, "/ops", operator_headers())
        while b"cannot be read" in overview.raw and b"Kafka has not answered yet" in overview.raw:
            await asyncio.sleep(0.2)
            overview = await get(running.url, "/ops", operator_headers())

    assert b"None is open." in page.raw
    assert b"cannot be read" not in overview.raw
