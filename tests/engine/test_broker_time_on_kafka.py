"""A worker whose machine's clock is days ahead, on a real broker: it says so, and ends no trial."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from billing_stream.records.topics import Topics
from tests.engine import wrong_clock_worker
from tests.support.audit import Audit
from tests.support.shop import create_merchants, shop
from tests.support.worker import Worker, create_topics, environment, run, worker

M1 = "11111111-1111-4111-8111-111111111111"
M2 = "22222222-2222-4222-8222-222222222222"
DAYS = 20


async def get(running: Worker, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(running.url + path) as response:
        assert response.status == 200
        return await response.text()


async def ahead(running: Worker) -> float:
    families = text_string_to_metric_families(await get(running, "/metrics"))
    (sample,) = [s for f in families if f.name == "billing_clock_ahead_seconds" for s in f.samples]
    return sample.value


@pytest.mark.timeout(180)
async def test_worker_whose_clock_is_days_ahead_says_so_and_ends_no_trial(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix, PYTHONPATH=str(Path(__file__).parents[2]))
    await create_topics(env)
    audit = Audit(kafka, Topics("billing-stream", prefix))
    await create_merchants(kafka, prefix, {M1: "one.example", M2: "two.example"})
    async with worker(env, folder) as right:
        async with shop("one.example", right) as client:
            assert (await client.insist("POST", "/api/billing/trials")).status == 201
        assert await ahead(right) == 0.0
        assert await right.stop() == 0

    wrong = Worker(env, folder)
    wrong.command = [sys.executable, wrong_clock_worker.__file__, str(DAYS)]
    await wrong.start()
    try:
        await wrong.ready()
        async with shop("two.example", wrong) as client:
            assert (await client.insist("POST", "/api/billing/trials")).status == 201
        async with shop("one.example", wrong) as client:
            answer = await client.insist("POST", "/api/billing/purchases", pack())
            assert answer.status == 201
            trial = await client.insist("GET", "/api/billing/trials")
            assert trial.data["active"] is True

        (warning,) = json.loads(await get(wrong, "/ready"))["data"]["warnings"]
        assert "s ahead of the brokers': timers and requests use the brokers' time" in warning
        assert abs(await ahead(wrong) - DAYS * 86_400) < 30
        _, output = await run(env, "doctor", "--json")
        found = json.loads(output[output.index("[\n") :])
        (finding,) = [one for one in found if one["check"] == "worker clocks"]
        assert (finding["verdict"], wrong.url in finding["said"]) == ("WARN", True)
        assert await wrong.stop() == 0
    finally:
        await wrong.kill()

    events = await audit.events()
    assert events["trial.expired"] == []
    (began,) = [e["data"] for e in events["trial.started"] if e["data"]["merchant_id"] == M2]
    left = datetime.fromisoformat(began["ends_at"]).astimezone(UTC) - datetime.now(UTC)
    assert abs(left - timedelta(days=14)) < timedelta(minutes=2)
    assert (await run(env, "verify"))[0] == 0


def pack() -> dict[str, str]:
    return {"pack": "small", "platform": "shopify", "return_url": "https://one.example/thanks"}
