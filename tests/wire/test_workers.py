"""Real workers at a real secured broker: what they are allowed is what the table says."""

import asyncio
import dataclasses
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from billing_stream.acls import Process, Resource, acls
from billing_stream.topics import Topics
from tests.support.audit import Audit
from tests.support.secured import PASSWORD, SecuredKafka
from tests.support.shop import create_merchants, shop
from tests.support.worker import Worker, create_topics, environment, run, worker

MERCHANT = "11111111-1111-4111-8111-111111111111"


async def carried_through(secured: SecuredKafka, prefix: str, env: dict[str, str], folder: Path) -> None:
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
async def test_a_worker_with_a_password_and_just_its_rights_carries_a_merchant_through(
    secured: SecuredKafka, prefix: str, folder: Path, mechanism: str
) -> None:
    env = environment("", prefix, **secured.sasl_environment("worker", mechanism))
    await create_topics(environment(secured.plain, prefix))
    await secured.allow_process(Process.WORKER, prefix)

    await carried_through(secured, prefix, env, folder)


async def test_a_worker_with_a_certificate_and_just_its_rights_carries_a_merchant_through(
    secured: SecuredKafka, prefix: str, folder: Path
) -> None:
    env = environment("", prefix, **secured.mutual_environment("worker"))
    await create_topics(environment(secured.plain, prefix))
    await secured.allow_process(Process.WORKER, prefix)

    await carried_through(secured, prefix, env, folder)
