"""The trial of a shop on a real worker and a real Kafka: two at once, and a kill, verified."""

import asyncio
import json
from pathlib import Path

import pytest

from billing_stream.records import topics as names
from tests.dead_letters.stage import stage
from tests.support.audit import read_committed
from tests.support.shop import create_merchants, shop
from tests.support.worker import worker
from tests.support.world import M1, M2

pytestmark = pytest.mark.timeout(240)

ONE, TWO = "one.example", "two.example"
TRIALS = "/api/billing/trials"


async def test_shop_has_one_trial_through_a_kill(kafka: str, prefix: str, folder: Path) -> None:
    again = folder / "again"
    again.mkdir()
    async with stage(kafka, prefix, folder, TRIAL_ONCE_PER="shop") as at:
        await create_merchants(kafka, prefix, {M1: ONE, M2: TWO})
        async with shop(ONE, at.worker) as one, shop(TWO, at.worker) as two:
            clients = (one, two)
            asked = [
                asyncio.create_task(client.insist("POST", TRIALS, {"idempotency_key": "k"}))
                for client in clients
            ]
            # They ask until a worker answers.
            await at.worker.kill()
            async with worker(at.env, again) as at.worker:
                for client in clients:
                    client.workers = [at.worker]
                replies = await asyncio.gather(*asked)
                trials = [await client.insist("GET", TRIALS) for client in clients]
                await at.quiet()
                started = await read_committed(
                    kafka, [at.topics.name(names.event_type("trial.started"))]
                )
                report = await at.verify()

    assert sorted(reply.status for reply in replies) == [201, 409]
    (first,) = (number for number, reply in enumerate(replies) if reply.status == 201)
    assert [trial.data["active"] for trial in trials] == [first == 0, first == 1]
    assert [trial.data["available"] for trial in trials] == [False, False]
    assert [json.loads(one.value)["data"]["merchant_id"] for one in started] == [(M1, M2)[first]]
    assert report.ok, "\n".join(report.lines())
